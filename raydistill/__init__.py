"""Dataset distillation for galaxy surveys: a few synthetic images per class that teach a network what a survey knows."""

__version__ = "0.1.0"
