"""Detect galaxies: fields of synthetic galaxies with exact boxes, a small detector, and its measures.

segmentation  sources in a picture by photutils: the first labeller, and the reference on real frames
fields        pictures of galaxies placed into larger fields
coco          annotations in the format of COCO
measures      average precision and other figures, with bootstrap intervals
network       the detector
"""
