"""The command ``bestepoch``: the only package that prints."""

from sweeps.cli.app import main

__all__ = ["main"]
