"""The curate stage: check and write the images and labels of selected galaxies."""
