"""Detect galaxies: synthetic fields with exact boxes, a small detector, measures.

segmentation  sources in a picture by photutils: first labeller, and reference on real frames
fields        pictures of galaxies placed into larger fields
coco          annotations in the format of COCO
measures      average precision and other figures, with bootstrap intervals
network       the detector
"""
