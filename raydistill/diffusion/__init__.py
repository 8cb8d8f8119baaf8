"""Generate images with diffusion, without Ray.

The package has conditions, processes, networks, training and sampling.
"""
