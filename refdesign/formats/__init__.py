"""File formats: one a module, each with a reader that trusts nothing and a writer that leaves nothing half-written."""
