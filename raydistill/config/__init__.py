"""One typed tree of frozen dataclasses; a YAML file is a whole, named run.

tree       the dataclasses
reading    YAML and overrides -> Config
sentences  what is wrong with one, in one sentence
"""

from raydistill.config.reading import EXTENDS, SHIPPED, load
from raydistill.config.tree import (
    Baseline,
    CatalogSurvey,
    Config,
    Curate,
    Distill,
    Evaluate,
    Experts,
    ExpertTraining,
    Images,
    Protocol,
    Resources,
    Tracking,
    plain,
)

__all__ = [
    "EXTENDS", "SHIPPED", "Baseline", "CatalogSurvey", "Config", "Curate", "Distill", "Evaluate", "ExpertTraining", "Experts", "Images",
    "Protocol", "Resources", "Tracking", "load", "plain",
]  # fmt: skip
