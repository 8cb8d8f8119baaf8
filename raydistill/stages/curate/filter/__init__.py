"""Reject pictures: damaged ones, and duplicates."""
