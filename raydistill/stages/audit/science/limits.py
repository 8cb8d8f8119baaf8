"""Define the limits of an audit, without scipy."""

MIN_PICTURES = 20  # of each sample: fewer leave no part to the jackknife and no neighbour to a ball


MAX_PICTURES = 1000  # of each sample by default: memory and time grow with the square

NUM_PERMUTATIONS = 399  # the smallest p-value is 1/400
