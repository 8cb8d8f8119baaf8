"""The adapt stage: align networks trained on one survey with another, and report what it gains."""
