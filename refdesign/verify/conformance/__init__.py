"""The conformance suite: property-based cases for any implementation of networks, with a replay of what fails.

`suite.py` is what pytest collects; the plugin that feeds it lies outside the package, so that pytest can load it
without importing the package.
"""
