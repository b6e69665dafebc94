"""Runs a study: asks for trials, gives them to trainers, judges them, and records."""
