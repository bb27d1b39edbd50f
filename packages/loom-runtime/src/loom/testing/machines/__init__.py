"""Hypothesis state machines that compare an adapter with a plain model, one a primitive."""
