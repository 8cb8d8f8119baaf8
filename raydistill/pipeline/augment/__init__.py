"""The augment stage: train classifiers on real, synthetic and distilled galaxies, and compare them."""
