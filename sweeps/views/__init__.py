"""A study in a notebook, in Optuna Dashboard, and its note there."""
