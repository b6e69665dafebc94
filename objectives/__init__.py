"""What is trained: data sets, models and the fused training engine. The only package with torch."""
