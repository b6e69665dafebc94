"""What is remembered: SQL tables, one door to write them and one to read them. No torch."""
