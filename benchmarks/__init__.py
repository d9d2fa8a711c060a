"""The project beside its peers, in one run, as ratios: `python -m benchmarks` or one module at a time."""
