"""The training engine: many trials of one shape trained as one program."""
