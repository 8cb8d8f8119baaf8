"""The tune stage: search the distillation recipe with Ray Tune."""
