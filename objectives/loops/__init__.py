"""A training loop of a person's own, and what is asked of it."""
