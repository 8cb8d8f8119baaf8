"""Define the part of a config about the search for rare objects."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveInt

from raydistill.config.kinds import BY_KIND, infer_kind
from raydistill.galaxies.tables.grammar import parse_expression
from raydistill.learning.architectures import ConvNet
from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import not_negative, strictly_between_0_and_1
from raydistill.learning.options import FixMatch, WeightedTraining
from raydistill.stages.curate.config import Part
from raydistill.stages.hunt.learn.ranking import FOR_CLASSES, Quotas
from raydistill.stages.hunt.learn.regression import Regression
from raydistill.stages.sample.config import Sample

# Define the learners that read pixels, without torch.
MOST_CLASSES = 9  # that keys of one digit answer


@dataclass(frozen=True)
class HuntTraining(WeightedTraining):
    """Train a network on the pixels of labelled objects."""

    steps: int = 300
    batch_size: int = 32
    average: float = 50.0
    augmentation: Augmentation = Augmentation(("dihedral",))
    precision: Precision | Literal["auto"] = "auto"


@dataclass(frozen=True)
class NetworkLearner:
    """Learn by a network on the pixels.

    Parameters
    ----------
    network
        Its architecture.
    training
        Its training.
    """

    kind: Literal["network"] = "network"
    network: ConvNet = field(default_factory=lambda: ConvNet(width=32))
    training: HuntTraining = field(default_factory=HuntTraining)


@dataclass(frozen=True)
class FixMatchLearner:
    """Learn by a network on the pixels of labelled and unlabelled objects (FixMatch).

    Parameters
    ----------
    network
        Its architecture.
    training
        Its training.
    """

    kind: Literal["fixmatch"] = "fixmatch"
    network: ConvNet = field(default_factory=lambda: ConvNet(width=32))
    training: FixMatch = field(default_factory=FixMatch)


NAME = re.compile(r"[A-Za-z0-9_-]+")
Learner = Regression | NetworkLearner | FixMatchLearner
# Strategies that need no synthetic source; the name of a source is the strategy that uses it.
REFERENCE = "real"  # learns from labels alone; the others are compared with it
STRATEGIES = ("upper_bound", REFERENCE, "random", "attributes", "network", "fixmatch")


@dataclass(frozen=True)
class SyntheticSource:
    """Name the positives and negatives of one source of synthetic galaxies.

    Both must come from the same source. With synthetic positives alone a classifier learns to tell
    synthetic pictures from real ones.

    Parameters
    ----------
    positive
        Folder of a synthetic set that shows the target class, or the `sample` section that makes it.
    negative
        The same for a set that does not show it.
    """

    positive: str | Sample
    negative: str | Sample


@dataclass(frozen=True)
class Oracle:
    """Let a table of the truth answer instead of a person, and compare strategies.

    Parameters
    ----------
    positive
        Condition on columns of the table, such as "truth_class <= 2 and truth_dust_lane > 0".
        docs/how-to/own-votes.md has the grammar.
    table
        Table of any format. None: the truth of the simulated survey.
    id
        Its column of object ids. None: objid, or the first column.
    part
        Search one of several disjoint parts of the survey alone. A digest of its id decides the part
        of an object. Background, examples and upper bound are of the part too. Choose settings on
        one part, and report on another. None: the whole survey.
    rounds
        Rounds of `hunt.per_round` labels.
    seeds
        Number of repetitions, with other examples and exploration.
    num_examples
        Known examples of the target class at the start, drawn by seed, and as many others.
    examples
        CSV of examples that are known at the start, instead of drawn ones.
    setting
        "strict": the attributes and the synthetic sets use no galaxy of the target class. "seen":
        they may.
    strategies
        Strategies to compare: upper_bound, real, random, attributes, network, fixmatch, and names of
        synthetic sources. None: real, random, upper_bound, all sources, and the attributes if given.
    attributes
        Answers of volunteers whose product is a baseline, such as [smooth, dust_lane].
    purity
        Required purity of the recall.
    folds
        Folds of `upper_bound`, which knows all labels but those of the fold. It has the features of
        a `source_network` of all sources.
    network, fixmatch
        The learners of these strategies.
    """

    positive: str
    table: str | None = None
    id: str | None = None
    part: Part | None = None
    rounds: PositiveInt = 5
    seeds: PositiveInt = 5
    num_examples: NonNegativeInt = 5
    examples: str | None = None
    setting: Literal["strict", "seen"] = "seen"
    strategies: tuple[str, ...] | None = None
    attributes: tuple[str, ...] = ()
    purity: float = 0.5
    folds: PositiveInt = 5
    network: NetworkLearner = field(default_factory=NetworkLearner)
    fixmatch: FixMatchLearner = field(default_factory=FixMatchLearner)

    def __post_init__(self) -> None:
        strictly_between_0_and_1(purity=self.purity)
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, got {self.folds}")
        if self.strategies is not None and (not self.strategies or len(set(self.strategies)) < len(self.strategies)):
            raise ValueError(f"strategies must name at least one, and none twice, got {list(self.strategies)}")
        if "attributes" in (self.strategies or ()) and not self.attributes:
            raise ValueError("attributes must name answers, because strategies names attributes")


@dataclass(frozen=True)
class Hunt:
    """Search for rare objects in a survey.

    Parameters
    ----------
    target
        Name of the target class, for pages and figures.
    classes
        Names of two to nine classes, in place of a target class: the sheet asks for the class, and a
        regression learns them all. The labels are then class names. It has no synthetic sources.
    survey
        The survey, as SURVEY of `raydistill predict`: its predictions must exist. None: that of
        `predict.survey`, or else of the config.
    labels
        CSV of the labels so far, with the columns filename and label. None: none.
    threshold
        Smallest grade from 1 to 5 of an object of the target class, if the labels are grades.
    learner
        Learns from the labels: a regression on the features of `predict`, a network on the pixels,
        or FixMatch.
    quotas
        Shares of a round, by the reason for which an object is shown. With `classes` the default is
        half uncertain and half random ones.
    per_round
        Objects of a round.
    background
        Random objects without a label that count as not of the target class.
    synthetic
        Sources of synthetic galaxies, by name. A round uses all of them.
    synthetic_weight
        Weight of the examples of a source relative to the real ones.
    source_network
        Network that is trained on the synthetic galaxies, with random objects of the survey as
        further negatives. Its features join those of `predict`. None: those of `predict` alone.
    source_background
        Number of those random objects.
    picture_size
        Side of the pictures on the sheet in pixels. Pictures of an artifact keep their size.
    seed
        Decides random objects.
    oracle
        A table that answers instead of a person. None: a person labels the sheet of each round.
    """

    target: str = "rare objects"
    classes: tuple[str, ...] = ()
    survey: str | None = None
    labels: str | None = None
    threshold: int = 4
    learner: Annotated[Learner, BY_KIND, infer_kind(Learner)] = field(default_factory=Regression)
    quotas: Quotas = field(default_factory=Quotas)
    per_round: PositiveInt = 20
    background: NonNegativeInt = 200
    synthetic: dict[str, SyntheticSource] = field(default_factory=dict)
    synthetic_weight: float = 0.3
    source_network: NetworkLearner | None = None
    source_background: PositiveInt = 1000
    picture_size: PositiveInt = 128
    seed: int = 0
    oracle: Oracle | None = None

    def __post_init__(self) -> None:
        not_negative(self, "synthetic_weight")
        self._check_classes()
        if not 1 < self.threshold <= 5:
            raise ValueError(f"threshold must lie in [2, 5], got {self.threshold}")
        if self.source_network is not None and not isinstance(self.learner, Regression):
            raise ValueError("source_network gives features to the learner 'regression', and learner is another one")
        if self.source_network is not None and not self.synthetic:
            raise ValueError("source_network needs a source of synthetic galaxies, and synthetic names none")
        for name in self.synthetic:
            if not NAME.fullmatch(name):
                raise ValueError(f"synthetic must name sources by letters, digits, - and _, got '{name}'")
            if name in STRATEGIES:
                raise ValueError(f"synthetic must not name a source '{name}', which is a strategy of its own")
        if self.oracle is not None and self.oracle.strategies is not None:
            known = (*STRATEGIES, *self.synthetic)
            for name in self.oracle.strategies:
                if name not in known:
                    raise ValueError(f"oracle.strategies names '{name}'; known are {', '.join(known)}")

    def _check_classes(self) -> None:
        if not self.classes:
            return
        if not 2 <= len(self.classes) <= MOST_CLASSES or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must name two to {MOST_CLASSES} different classes, got {list(self.classes)}")
        if self.synthetic or self.oracle is not None or not isinstance(self.learner, Regression):
            raise ValueError(
                "classes are learned by the regression from labels: leave out synthetic, oracle and learner"
            )

    def check(self) -> None:
        """Raise ConfigError if the oracle's condition is not an expression."""
        if self.oracle is not None:
            parse_expression(self.oracle.positive, "hunt.oracle.positive")

    @property
    def class_quotas(self) -> Quotas:
        """Return the quotas of a round for several classes."""
        return FOR_CLASSES if self.quotas == Quotas() else self.quotas

    @property
    def scripted(self) -> Oracle:
        """Return the oracle of a hunt that has one."""
        assert self.oracle is not None
        return self.oracle

    @property
    def strategies(self) -> tuple[str, ...]:
        """Return the strategies that the oracle compares."""
        if self.oracle is None:
            return ()
        given = ("attributes",) if self.oracle.attributes else ()
        return self.oracle.strategies or ("upper_bound", *self.synthetic, REFERENCE, "random", *given)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Return the `sample` sections of the sources that are made by this run."""
        sets = [sample for source in self.synthetic.values() for sample in (source.positive, source.negative)]
        return tuple(sample for sample in sets if isinstance(sample, Sample))
