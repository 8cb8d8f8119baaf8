"""Measure what trained networks see in galaxies and in prototypes.

The measures use numpy, scipy and torch, without Ray.

Shape suffixes: N pictures, H rows, W columns, C colour channels, K classes, L patches, F features
of a network, M sparse features, A answers, R repeated distillations or resamples.
"""
