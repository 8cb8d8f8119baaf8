"""The curate stage: write the checked images and labels of a survey's selected galaxies."""
