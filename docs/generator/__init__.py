"""What the site has besides written pages: generated ones, live examples, rendered notebooks, the explorable."""
