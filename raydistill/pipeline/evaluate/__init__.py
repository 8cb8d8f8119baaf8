"""The evaluate stage: train fresh networks on each training set and score them on the test split."""
