"""Trials of one shape, trained as one program: the trainer, its lanes, their rows and steps."""
