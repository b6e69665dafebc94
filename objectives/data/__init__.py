"""Readers of data files, and the small data files that ship with the project."""
