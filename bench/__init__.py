"""Benchmarks: Twofold, the raw driver doing the same rows, and peers, in one run. See `make bench`."""
