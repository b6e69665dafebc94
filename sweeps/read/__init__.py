"""Reads a study from the database in one transaction."""
