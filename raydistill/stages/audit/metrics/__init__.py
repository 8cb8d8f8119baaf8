"""Measure how two sets of pictures differ."""
