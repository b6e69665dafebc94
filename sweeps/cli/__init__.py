"""The command ``bestepoch``: the only package that prints."""
