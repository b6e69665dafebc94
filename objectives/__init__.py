"""What is trained: data sets, models and the training engine. The only package with torch."""
