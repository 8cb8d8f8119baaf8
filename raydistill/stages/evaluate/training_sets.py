"""The training sets compared: the distilled set, its baselines, and all the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from raydistill.config import Baseline, Evaluate, Protocol
from raydistill.config.kinds import added
from raydistill.distillation.coreset import Coreset
from raydistill.distillation.initial import expert_labels, hard_labels
from raydistill.errors import ArtifactIncompatible
from raydistill.learning.augment import Augmentation
from raydistill.learning.normalise import one_hot
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet, SyntheticImages
from raydistill.stages.evaluate.artifact import unaugmented
from raydistill.stages.evaluate.baselines import Baselines, Teachers
from raydistill.stages.evaluate.config import BASELINES
from raydistill.stages.evaluate.fits import TrainingSet

log = get_logger(__name__)


@dataclass(frozen=True)
class TrainingSets:
    """Make the training sets to compare: one list per set, with an entry per network.

    The entries of a list are equal, except those of random images and of baselines of other packages.

    If the distilled set has soft labels, the baselines get labels from the same source: the votes,
    or its experts. Otherwise the comparison would credit the images with the gain from soft labels.
    """

    options: Evaluate
    distilled: DistilledSet
    baselines: Baselines
    teachers: Teachers | None
    votes_NK: Tensor | None
    _made: dict[Baseline, list[TrainingSet]] = field(default_factory=dict)

    def small(self) -> Iterator[list[TrainingSet]]:
        """Yield the distilled set and the baselines of its size."""
        count, distilled = self.options.num_networks, self.distilled
        if distilled.selected.soft and self.votes_NK is None and self.teachers is None:
            log.warning(
                "evaluate: the baselines get hard labels: the experts, which would give them soft ones, are missing"
            )
        yield [_from_images("distilled", distilled.selected)] * count
        if distilled.last.iteration != distilled.selected.iteration:
            yield [_from_images("distilled_last", distilled.last)] * count
        for name in self.options.baselines:
            yield self._baseline(name)

    def for_scores(self) -> Iterator[tuple[list[TrainingSet], str, Protocol]]:
        """Yield the additional sets of the scores, each with protocol name and protocol.

        They use the first protocol, also without augmentation. A set with soft labels is also
        trained with hard ones.
        """
        name, protocol = self.options.first_protocol
        plain = replace(protocol, training=replace(protocol.training, augmentation=Augmentation()))
        distilled, count = _from_images("distilled", self.distilled.selected), self.options.num_networks
        random = self._baseline("random_real")
        if "random_real" not in self.options.baselines:
            yield random, name, protocol
        if self.distilled.selected.soft:
            # The learned rates belong to the soft labels; with hard labels the rate is searched
            # for.
            targets = hard_labels(self.distilled.counts)
            yield [TrainingSet("distilled_hard", 0, distilled.images_NCHW, targets)] * count, name, protocol
        others = (self._baseline(baseline) for baseline in self.options.baselines if baseline != "random_real")
        for sets in ([distilled] * count, random, *others):
            yield sets, unaugmented(name), plain

    def full_data(self) -> TrainingSet:
        """Return all the training data."""
        images, labels = self.baselines.train
        return TrainingSet("full_data", 0, images, one_hot(labels, len(self.baselines.counts)))

    def _baseline(self, name: Baseline) -> list[TrainingSet]:
        if name in self._made:
            return self._made[name]
        count = self.options.num_networks
        draws = count if name in ("random_real", "random_soft", *added(BASELINES)) else 1
        coresets = [self.baselines.images(name, draw) for draw in range(draws)]
        sets = [TrainingSet(name, draw, c.images_SCHW, self._labels(name, c)) for draw, c in enumerate(coresets)]
        self._made[name] = [sets[i % draws] for i in range(count)]
        return self._made[name]

    def _labels(self, name: Baseline, coreset: Coreset) -> Tensor:
        counts, teachers = self.baselines.shown(name), self.teachers
        if name == "random_soft":
            teachers = self.baselines.required_teachers(name)
        elif self.votes_NK is not None:
            return coreset.mean(self.votes_NK)
        elif not self.distilled.selected.soft:
            teachers = None
        if teachers is None:
            return hard_labels(counts)
        return expert_labels(coreset.images_SCHW, counts, teachers.network, teachers.ends).softmax(dim=1)


def load_votes(plan: Plan, distilled: DistilledSet, curated: CuratedSet) -> Tensor | None:
    """Return class probabilities [N, K] of the training galaxies, from their votes.

    None unless the labels of the distilled set are votes or were initialised with votes.
    """
    recipe = distilled.manifest.config.get("distill", {})
    if "votes" not in (recipe.get("labels"), recipe.get("label_init")):
        return None
    if not curated.has_votes and plan.config.evaluate.scores:
        raise ArtifactIncompatible(
            "its labels are votes, and this survey has no votes for the random images that the scores need",
            distilled.folder.uri,
            "set evaluate.scores=false",
        )
    if not curated.has_votes:
        log.warning(
            "evaluate: the labels of the distilled set are votes; this survey has none, so the baselines get other labels"
        )
        return None
    return curated.probabilities("train", plan.class_tree)


def _from_images(name: str, images: SyntheticImages) -> TrainingSet:
    lrs = images.student_lrs if len(images.student_lrs) else None  # a set made for heads has no rates
    return TrainingSet(name, 0, images.images_SCHW, images.targets_SK, lrs)
