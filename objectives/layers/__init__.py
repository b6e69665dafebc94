"""Layers that take the weights of many trials, and the check that a model may be one of many."""
