"""The audit stage: compare synthetic pictures with real ones, and write a report."""
