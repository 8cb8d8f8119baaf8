"""Profiles, shapes and structure of galaxies in stretched RGB pictures.

They need numpy alone, no torch and no Ray.
"""
