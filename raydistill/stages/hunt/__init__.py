"""The hunt stage: rank rare objects for a person, or compare strategies.

A scripted labeller replaces the person in a comparison.
"""
