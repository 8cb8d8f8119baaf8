"""The simulate stage: draw a survey with known truth."""
