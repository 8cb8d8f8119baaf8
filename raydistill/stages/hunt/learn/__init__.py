"""Learn from labels, and rank a survey."""
