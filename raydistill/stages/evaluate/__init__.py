"""The evaluate stage: train fresh networks on each training set, and test them."""
