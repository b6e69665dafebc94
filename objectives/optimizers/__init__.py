"""What steps the weights of many trials: optimizers, the line search, rates and losses."""
