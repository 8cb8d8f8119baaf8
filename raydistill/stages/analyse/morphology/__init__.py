"""The section about morphology."""
