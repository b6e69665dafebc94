"""Watches a training loop for a few epochs and finds the usual bugs.

Most checks are those of A. Karpathy, "A Recipe for Training Neural Networks",
karpathy.github.io/2019/04/25/recipe.
"""
