"""Judging an implementation: strategies for property-based tests, and what the doors of a verification need."""
