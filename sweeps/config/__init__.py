"""A sweep's settings: read from a file, a study and options, checked, and written."""
