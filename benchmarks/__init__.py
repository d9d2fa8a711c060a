"""The project beside its peers, in one run, as ratios: `make bench`, or `python -m benchmarks.conv` and so on."""
