"""Name the kinds of artifacts.

A plan names artifacts that it does not open, so nothing else is imported here.
"""

SURVEY = "survey"
CURATED = "curated"
TRAJECTORIES = "trajectories"
ENCODER = "encoder"
DISTILLED = "distilled"
EVALUATION = "evaluation"
SEARCH = "search"
PREDICTIONS = "predictions"
GENERATOR = "generator"
SYNTHETIC = "synthetic"
AUDIT = "audit"
AUGMENTATION = "augmentation"
ADAPTATION = "adaptation"
DETECTION = "detection"
HUNT = "hunt"
HUNT_ROUND = "hunt_round"
ANALYSIS = "analysis"
SIMILAR = "similar"
