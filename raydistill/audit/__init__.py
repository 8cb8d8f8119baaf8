"""Compare synthetic pictures with real ones: features, distances, and tests that control false alarms."""
