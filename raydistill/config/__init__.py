"""Define the config: a typed tree of frozen dataclasses.

A YAML file is a complete, named run.

tree       the whole config
survey     the parts about the survey and its curation
picture_filter  the filter of damaged pictures
resources  the parts about resources and tracking
experts, distill, evaluate, analyse, predict, generate, sample, audit, augment, adapt: the part of
           each stage
search     the part for `tune`
differences  keys that differ from their defaults
kinds      choice among classes by `kind`
reading    YAML and overrides -> Config
messages   one sentence for a wrong config
"""

from raydistill.config.adapt import Adapt
from raydistill.config.audit import Audit
from raydistill.config.augment import Augment
from raydistill.config.distill import Distill
from raydistill.config.evaluate import Baseline, Evaluate, FullDataTraining, GroupOptions, Protocol
from raydistill.config.experts import Decompose, Experts, ExpertTraining, Nuisance
from raydistill.config.generate import Generate
from raydistill.config.picture_filter import PictureFilter
from raydistill.config.predict import Predict
from raydistill.config.reading import EXTENDS, load, override, vary
from raydistill.config.resources import Resources, Tracking
from raydistill.config.sample import Filter, Sample, TableConditions
from raydistill.config.search import Halving, Population, Range, Search
from raydistill.config.survey import CatalogSurvey, Curate, Exclusion, Images
from raydistill.config.tree import Config, Survey, identity_part, network_names, plain, sources

__all__ = [
    "EXTENDS", "Adapt", "Audit", "Augment", "Baseline", "CatalogSurvey", "Config", "Curate", "Decompose", "Distill",
    "Evaluate", "Exclusion", "ExpertTraining", "Experts", "Filter", "FullDataTraining", "Generate", "GroupOptions", "Halving", "Images",
    "Nuisance", "PictureFilter",
    "Population", "Predict", "Protocol", "Range", "Resources", "Sample", "Search", "Survey", "TableConditions", "Tracking",
    "identity_part", "load", "network_names", "override", "plain", "sources", "vary",
]  # fmt: skip
