"""Feed trainings with the pictures of curated sets."""
