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

from raydistill.config.reading import EXTENDS, load, override, vary
from raydistill.config.resources import Resources, Tracking
from raydistill.config.tree import Config, Survey, identity_part, network_names, plain, sources
from raydistill.stages.adapt.config import Adapt
from raydistill.stages.audit.config import Audit
from raydistill.stages.augment.config import Augment
from raydistill.stages.curate.config import CatalogSurvey, Curate, Exclusion, Images
from raydistill.stages.curate.filter_config import PictureFilter
from raydistill.stages.distill.config import Distill
from raydistill.stages.evaluate.config import Baseline, Evaluate, FullDataTraining, GroupOptions, Protocol
from raydistill.stages.experts.config import Decompose, Experts, ExpertTraining, Nuisance
from raydistill.stages.generate.config import Generate
from raydistill.stages.predict.config import Predict
from raydistill.stages.sample.config import Filter, Sample, TableConditions
from raydistill.stages.tune.config import Halving, Population, Range, Search

__all__ = [
    "EXTENDS", "Adapt", "Audit", "Augment", "Baseline", "CatalogSurvey", "Config", "Curate", "Decompose", "Distill",
    "Evaluate", "Exclusion", "ExpertTraining", "Experts", "Filter", "FullDataTraining", "Generate", "GroupOptions", "Halving", "Images",
    "Nuisance", "PictureFilter",
    "Population", "Predict", "Protocol", "Range", "Resources", "Sample", "Search", "Survey", "TableConditions", "Tracking",
    "identity_part", "load", "network_names", "override", "plain", "sources", "vary",
]  # fmt: skip
