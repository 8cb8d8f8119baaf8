"""Generate images with diffusion: conditions, processes, networks, training and sampling, without Ray."""
