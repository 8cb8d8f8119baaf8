"""The experts stage: train networks and keep their trajectories."""
