"""Benchmarks: each as a ratio to a raw limit measured in the same run."""
