"""The simulated survey: galaxies with exact truth, rendered as a telescope would see them."""
