"""The distill stage: match expert trajectories with a few synthetic images."""
