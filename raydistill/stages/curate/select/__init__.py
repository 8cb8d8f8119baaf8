"""Select galaxies of a survey, and divide them."""
