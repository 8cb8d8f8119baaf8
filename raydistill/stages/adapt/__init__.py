"""The adapt stage: align networks of one survey with another, and report the gain."""
