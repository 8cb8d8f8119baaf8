"""Give intervals, tests and comparisons of samples; numpy and scipy alone."""
