"""The stage `sample`: synthetic galaxies from a generator."""
