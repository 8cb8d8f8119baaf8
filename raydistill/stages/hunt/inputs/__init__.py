"""What a hunt reads: survey, labels and sources."""
