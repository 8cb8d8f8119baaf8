"""The evaluate stage: train fresh networks on each small set and score them on test images."""
