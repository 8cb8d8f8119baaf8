"""Sections about prototypes."""
