"""The detect stage: train a detector on synthetic fields; test it on real frames."""
