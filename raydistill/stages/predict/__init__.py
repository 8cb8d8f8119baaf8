"""The predict stage: write the class probabilities of every picture of a survey."""
