"""The operators: one a file, pure functions on arrays."""
