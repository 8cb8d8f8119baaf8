"""Run the pipeline on Ray: one package for each stage, and their plan."""
