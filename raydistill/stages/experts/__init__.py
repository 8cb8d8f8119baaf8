"""The experts stage: train networks and store their trajectories."""
