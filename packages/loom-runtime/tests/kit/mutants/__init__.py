"""Adapters that are broken on purpose, each in one way: what the conformance suites must catch."""
