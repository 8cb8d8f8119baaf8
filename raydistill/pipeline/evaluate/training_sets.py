"""What is compared: the distilled set, the baselines of its size, labelled by whoever labelled it, and the experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from pydantic import TypeAdapter
from torch import Tensor

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet, SyntheticImages
from raydistill.artifacts.evaluation import unaugmented
from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.config import Baseline, Evaluate, Protocol
from raydistill.core.architectures import Architecture
from raydistill.core.augment import Augmentation
from raydistill.core.coreset import Coreset
from raydistill.core.initial import expert_labels, hard_labels
from raydistill.core.networks import Network, build
from raydistill.core.normalise import one_hot
from raydistill.errors import ArtifactIncompatible, RaydistillError
from raydistill.log import get_logger
from raydistill.pipeline.evaluate.baselines import Baselines
from raydistill.pipeline.evaluate.evaluator import TrainingSet
from raydistill.pipeline.plan import Plan

log = get_logger(__name__)


@dataclass(frozen=True)
class TrainingSets:
    """The training sets that are compared, one per network; only random real images are drawn anew for each.

    Where the distilled set has soft labels, who labelled it labels the baselines too, the volunteers (`votes_NK`) or its experts: what
    soft labels bring is not the images' merit.
    """

    wanted: Evaluate
    distilled: DistilledSet
    baselines: Baselines
    teachers: Teachers | None
    votes_NK: Tensor | None

    def small(self) -> Iterator[list[TrainingSet]]:
        """The distilled set and the baselines of its size."""
        count, distilled = self.wanted.num_networks, self.distilled
        if distilled.selected.soft and self.votes_NK is None and self.teachers is None:
            log.warning(
                "evaluate: the baselines get hard labels, for the experts that could label them as softly are gone"
            )
        yield [_of("distilled", distilled.selected)] * count
        if distilled.last.iteration != distilled.selected.iteration:
            yield [_of("distilled_last", distilled.last)] * count
        for name in self.wanted.baselines:
            yield self._baseline(name)

    def for_scores(self) -> Iterator[tuple[list[TrainingSet], str, Protocol]]:
        """What the scores need beside the comparison: the first protocol unaugmented, and hard labels where the set's are soft."""
        name, protocol = next(iter(self.wanted.protocols.items()))
        plain = replace(protocol, training=replace(protocol.training, augmentation=Augmentation()))
        ours, count = _of("distilled", self.distilled.selected), self.wanted.num_networks
        random = self._baseline("random_real")
        if "random_real" not in self.wanted.baselines:
            yield random, name, protocol
        if self.distilled.selected.soft:
            # Its learning rates were learned with its soft labels: these have theirs searched for.
            targets = hard_labels(self.baselines.num_classes, self.distilled.images_per_class)
            yield [TrainingSet("distilled_hard", 0, ours.images_NCHW, targets)] * count, name, protocol
        yield [ours] * count, unaugmented(name), plain
        yield random, unaugmented(name), plain

    def everything(self) -> TrainingSet:
        """All the training data."""
        images, labels = self.baselines.taught
        return TrainingSet("full_data", 0, images, one_hot(labels, self.baselines.num_classes))

    def _baseline(self, name: Baseline) -> list[TrainingSet]:
        count = self.wanted.num_networks
        draws = count if name == "random_real" else 1
        chosen = [self.baselines.images(name, draw) for draw in range(draws)]
        sets = [TrainingSet(name, draw, c.images_SCHW, self._labels(c)) for draw, c in enumerate(chosen)]
        return [sets[i % draws] for i in range(count)]

    def _labels(self, chosen: Coreset) -> Tensor:
        num_classes, ipc, teachers = self.baselines.num_classes, self.distilled.images_per_class, self.teachers
        if self.votes_NK is not None:
            return chosen.mean(self.votes_NK)
        if self.distilled.selected.soft and teachers:
            logits = expert_labels(chosen.images_SCHW, num_classes, ipc, teachers.network, teachers.ends)
            return logits.softmax(dim=1)
        return hard_labels(num_classes, ipc)


def load_votes(plan: Plan, distilled: DistilledSet, curated: CuratedSet) -> Tensor | None:
    """[N, K] class probabilities of the training galaxies, where the distilled set's labels are votes, or began as votes."""
    made = distilled.manifest.config.get("distill", {})
    if "votes" not in (made.get("labels"), made.get("label_init")):
        return None
    if not curated.has_votes and plan.config.evaluate.scores:
        raise ArtifactIncompatible(
            "its labels are votes, which random real images of this survey do not have, as the scores would want them",
            distilled.folder.uri,
            "set evaluate.scores=false",
        )
    if not curated.has_votes:
        log.warning(
            "evaluate: the baselines cannot have labels of votes, as the distilled set has, for this survey has no votes"
        )
        return None
    return curated.probabilities("train", plan.class_tree)


def _of(subject: str, images: SyntheticImages) -> TrainingSet:
    return TrainingSet(subject, 0, images.images_SCHW, images.targets_SK, images.student_lrs)


@dataclass(frozen=True)
class Teachers:
    """The experts that taught the distilled set, under whose normalisation they were trained."""

    store: TrajectoryStore
    architecture: Architecture
    network: Network
    num_classes: int

    @cached_property
    def ends(self) -> list[Tensor]:
        """theta_P at the end of each expert's training; read once, however many baselines they label."""
        return self.store.ends()


def load_teachers(plan: Plan, distilled: DistilledSet, curated: CuratedSet) -> Teachers | None:
    """None, with a warning, where they are gone. A run's own lie beside it, wherever the run folder was moved to."""
    parent = distilled.manifest.parents.get("trajectories")
    if parent is None:
        log.warning("evaluate: the experts are left out (the distilled set does not name any)")
        return None
    own = plan.trajectories
    try:
        store = TrajectoryStore.open(own.folder if own.identity == parent.identity else parent.uri)
        check_parent(distilled.manifest, "trajectories", store.manifest, distilled.folder.uri)
    except RaydistillError as error:
        log.warning("evaluate: the experts are left out (%s)", error)
        return None
    architecture = TypeAdapter(Architecture).validate_python(store.manifest.config["network"])
    network = build(architecture, curated.num_classes, curated.summary.image_size)
    return Teachers(store, architecture, network, curated.num_classes)
