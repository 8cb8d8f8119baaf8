"""Show an evaluation: files, charts and text."""
