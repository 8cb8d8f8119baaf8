"""The curate stage: from a survey to a balanced set of checked images."""
