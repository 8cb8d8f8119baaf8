"""Fields of several galaxies, and their pictures."""
