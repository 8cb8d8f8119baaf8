"""Build and train networks: what experts, students and classifiers share."""
