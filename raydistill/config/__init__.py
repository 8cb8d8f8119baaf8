"""Define the config: a typed tree of frozen dataclasses. A YAML file is a complete, named run.

tree       the dataclasses
survey     the parts about the survey and its curation
search     the part for `tune`
audit      the part for `audit`
predict    the part for `predict`
generate   the part for `generate`
sample     the part for `sample`
kinds      choice among classes by `kind`
reading    YAML and overrides -> Config
messages   one sentence for a wrong config
"""

from raydistill.config.audit import Audit
from raydistill.config.generate import Generate
from raydistill.config.predict import Predict
from raydistill.config.reading import EXTENDS, SHIPPED, load, override, vary
from raydistill.config.sample import Filter, Sample, TableConditions
from raydistill.config.search import Halving, Population, Range, Search
from raydistill.config.survey import CatalogSurvey, Curate, Images
from raydistill.config.tree import (
    Baseline,
    Config,
    Distill,
    Evaluate,
    Experts,
    ExpertTraining,
    Protocol,
    Resources,
    Survey,
    Tracking,
    identity_part,
    plain,
    sources,
)

__all__ = [
    "EXTENDS", "SHIPPED", "Audit", "Baseline", "CatalogSurvey", "Config", "Curate", "Distill", "Evaluate", "ExpertTraining", "Experts",
    "Filter", "Generate", "Halving", "Images", "Population", "Predict", "Protocol", "Range", "Resources", "Sample", "Search",
    "Survey", "TableConditions", "Tracking", "identity_part", "load", "override", "plain", "sources", "vary",
]  # fmt: skip
