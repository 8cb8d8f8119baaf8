"""Compare synthetic with real pictures by features, distances and tests.

The tests control false alarms.
"""
