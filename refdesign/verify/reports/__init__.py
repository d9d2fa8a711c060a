"""Reports of a verification: plain data for JSON (with its schema), JUnit XML, and one HTML file."""
