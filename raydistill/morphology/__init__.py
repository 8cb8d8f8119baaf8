"""Profiles, shapes and structure of galaxies in stretched RGB pictures; numpy alone, no torch and no Ray."""
