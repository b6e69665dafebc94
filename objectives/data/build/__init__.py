"""How the shipped data files were made; no sweep imports it."""
