"""The names that `raydistill.config` gives."""

from raydistill.config.differences import chosen
from raydistill.config.reading import EXTENDS, load, override, vary
from raydistill.config.resources import Resources, Tracking
from raydistill.config.tree import Config, Survey, plain, sources
from raydistill.stages.adapt.config import Adapt
from raydistill.stages.audit.config import Audit
from raydistill.stages.augment.config import Augment
from raydistill.stages.curate.config import CatalogSurvey, Curate, Exclusion, Images, PictureFilter
from raydistill.stages.distill.config import Distill
from raydistill.stages.evaluate.config import Baseline, Evaluate, FullDataTraining, GroupOptions, Protocol
from raydistill.stages.experts.config import Decompose, Experts, ExpertTraining, Nuisance
from raydistill.stages.generate.config import Generate
from raydistill.stages.predict.config import Predict
from raydistill.stages.sample.config import Filter, Sample, TableConditions
from raydistill.stages.tune.config import Halving, Population, Range, Search
