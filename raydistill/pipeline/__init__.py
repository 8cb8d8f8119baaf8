"""The pipeline on Ray: one package for each stage, and the plan of their artifacts."""
