"""Classify pictures with the trained experts."""
