"""The augment stage: train on real, synthetic and distilled galaxies, and compare."""
