"""The stage `analyse`: sections about prototypes, and a report."""
