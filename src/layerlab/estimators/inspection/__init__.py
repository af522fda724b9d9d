"""``layerlab estimator inspect``: the variance, bias and cost of every estimator on a user's function."""
