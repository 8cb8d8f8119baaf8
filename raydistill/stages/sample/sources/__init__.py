"""Where samples come from: galaxies, pools, requests."""
