"""Deliberately wrong implementations, as data, to measure a suite of tests and a diagnosis with."""
