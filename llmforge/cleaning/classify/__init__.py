"""A label for each document: hashed runs of words and a linear model, applied with NumPy alone."""
