"""The detect stage: train a detector on fields of synthetic galaxies, and evaluate it on real frames."""
