"""Search for rare objects in a survey: learn from few labels, rank, ask, repeat.

Everything here is numpy, scipy and scikit-learn; `stages.hunt` reads the files and runs Ray.

Shape suffixes: N objects of a survey, L labelled examples, F features, C candidates.
"""
