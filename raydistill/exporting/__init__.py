"""Copy sets for other programs: cards, Hugging Face, provenance."""
