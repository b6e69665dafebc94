"""What may vary: typed hyperparameters and the ranges they are sampled from. No torch, no SQL."""
