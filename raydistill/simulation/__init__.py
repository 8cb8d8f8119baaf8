"""The simulated survey: galaxies with exact truth, as a telescope would see them."""
