"""Build and train networks: what experts, students, classifiers and detectors share."""
