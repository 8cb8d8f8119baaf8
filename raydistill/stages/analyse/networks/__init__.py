"""Sections about what networks see."""
