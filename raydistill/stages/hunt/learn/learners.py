"""Choose what learns in a hunt, and what it sees of the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Images
from raydistill.datasets.base import DataSet
from raydistill.distillation.cost_model import WorkEstimate
from raydistill.learning.arithmetic import EAGER, Arithmetic
from raydistill.learning.normalise import AnyNormalisation
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.ray_data import finish_blocks
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import resolve
from raydistill.seeding import fold_in
from raydistill.stages.hunt.config import Hunt, HuntTraining
from raydistill.stages.hunt.inputs.sources import Source
from raydistill.stages.hunt.inputs.survey import HuntedSurvey
from raydistill.stages.hunt.learn.learning import (
    AnyLearner,
    Pixels,
    SourceNetwork,
    computed_by,
    estimate_fit,
    fit_source_network,
    for_aligned,
    uses_pixels,
)
from raydistill.stages.hunt.learn.ranking import Rows, random_keys
from raydistill.stages.hunt.learn.regression import Features, Group, Regression
from raydistill.storage import Folder, checked
from raydistill.surveys.survey import Preparation, Reader, prepare_picture
from raydistill.tracking.tracker import Run

# Choose the learners of a hunt, and their examples besides labels.


def hunt_of(plan: Plan, arithmetic: Arithmetic = EAGER) -> Hunt:
    """Return the hunt of a config as its networks are trained.

    Parameters
    ----------
    plan
        The config. Where galaxies are aligned, networks see no rotated pictures.
    arithmetic
        That of all networks, where the config does not say it.
    """
    config = _change_networks(plan.config.hunt, lambda learner: computed_by(learner, arithmetic))
    return _change_networks(config, for_aligned) if plan.config.curate.align else config


def _change_networks(config: Hunt, change: Callable[[Any], Any]) -> Hunt:
    """Return the hunt with all its learners on pixels changed."""
    oracle, network = config.oracle, config.source_network
    if oracle is not None:
        oracle = replace(oracle, network=change(oracle.network), fixmatch=change(oracle.fixmatch))
    return replace(
        config,
        learner=change(config.learner) if uses_pixels(config.learner) else config.learner,
        source_network=None if network is None else change(network),
        oracle=oracle,
    )


def choose_arithmetic(plan: Plan, spec: ArtifactSpec, run: Run, image_size: int) -> Arithmetic:
    """Return the arithmetic of a hunt's networks.

    They are compiled and computed in bfloat16 if the work is worth it.
    """
    config, work = plan.config.hunt, WorkEstimate()
    for learner, count in _fits(config):
        if not isinstance(learner, Regression):
            cost = estimate_fit(learner, image_size)
            work += WorkEstimate(count * cost.flops, count * cost.steps)
    return resolve(spec.folder, run, HuntTraining(), work, replace(Processor.of(plan.config.resources), gpus=0))


def _fits(config: Hunt) -> list[tuple[AnyLearner, int]]:
    """Return the learners, and how often each is fitted at most."""
    oracle, network = config.oracle, config.source_network
    if oracle is None:
        return [(config.learner, 1)] + ([] if network is None else [(network, 1)])
    with_source = sum(name in config.synthetic for name in config.strategies)
    rounds = oracle.seeds * (oracle.rounds + 1)
    fits: list[tuple[AnyLearner, int]] = [
        (config.learner, rounds * (with_source + ("real" in config.strategies))),
        (oracle.network, rounds * ("network" in config.strategies)),
        (oracle.fixmatch, rounds * ("fixmatch" in config.strategies)),
    ]
    if network is not None:
        fits.append((network, oracle.seeds * (with_source + ("upper_bound" in config.strategies))))
    return fits


def reads_pictures(config: Hunt) -> bool:
    """Return whether the learner, or the network of the sources, reads pictures."""
    return uses_pixels(config.learner) or config.source_network is not None


def synthetic_groups(sources: Sequence[Source], pixels: bool, weight: float) -> list[Group]:
    """Return the examples of each source; none if their weight is 0."""
    if not weight:
        return []
    return [
        Group(source.pixels_LHWC if pixels else source.features_LF, source.positive_L, weight) for source in sources
    ]


def draw_background(rows: Rows, count: int, seed: int) -> Rows:
    """Return `count` random rows, in order."""
    keys = random_keys(rows, fold_in(seed, "background"))
    return np.sort(rows[np.argsort(keys, kind="stable")[:count]])


def train_on_sources(
    config: Hunt, sources: Sequence[Source], background_NHWC: Pixels, normalisation: AnyNormalisation, seed: int
) -> tuple[SourceNetwork, list[Source]]:
    """Return the network of `hunt.source_network`, and the sources with its features.

    Parameters
    ----------
    config
        A hunt with such a network.
    sources
        The sources on which it is trained.
    background_NHWC
        Pictures of random objects of the survey.
    normalisation
        Of its pictures.
    seed
        Root of the network's random numbers.
    """
    assert config.source_network is not None
    groups = synthetic_groups(sources, pixels=True, weight=1.0)
    network = fit_source_network(groups, background_NHWC, config.source_network, normalisation, seed)
    return network, [
        source._replace(features_LF=network.join(source.features_LF, source.pixels_LHWC)) for source in sources
    ]


# Prepare the pictures of a survey for learners on pixels, block by block.
#
# A block of the predictions gives one file of the pictures of its usable objects, uint8 [n, H, W, 3].

PICTURES = "pictures"


@dataclass(frozen=True)
class BlockPreparer:
    """Prepare the pictures of one block of usable objects, and write its file."""

    folder: str
    reader: Reader
    images: Images | DataSet
    preparation: Preparation

    def __call__(self, block: pa.Table) -> int:
        """Prepare one block, and return how many pictures it has."""
        number = block["block"][0].as_py()
        pictures = [prepare_picture(source, "", self.images, self.preparation) for source in self.reader.read(block)]
        packed = pack_tensors({PICTURES: torch.tensor(np.stack(pictures))})
        checked.write(Folder(self.folder), block_name(number), packed)
        return len(pictures)


def prepare_pictures(plan: Plan, survey: HuntedSurvey, folder: Folder) -> None:
    """Write the files of all blocks that are missing in a folder."""
    blocks = []
    for number, (rows, _) in enumerate(survey.blocks()):
        if len(rows):
            objects = survey.pictures.objects.take(pa.array(rows)).combine_chunks()
            table = objects.append_column("block", pa.array([number] * len(rows), pa.int64()))
            blocks.append((block_name(number), len(rows), table))
    pictures = survey.pictures
    preparer = BlockPreparer(folder.uri, pictures.reader, pictures.images, pictures.preparation)
    finish_blocks(folder, blocks, preparer, plan.config.resources, stage="hunt", doing="preparing")


def read_block(folder: Folder, number: int) -> Pixels:
    """Return the pictures of a block, uint8 [n, H, W, 3]."""
    tensors, _ = unpack_tensors(checked.require(folder, block_name(number)))
    return tensors[PICTURES].numpy()


def block_name(number: int) -> str:
    """Return the name of the file of a block."""
    return f"{PICTURES}-{number:06d}.safetensors"


# Read what a learner sees of the objects of a survey, block by block.

JOINED = "features"


@dataclass(frozen=True)
class Values:
    """The values of each object: features, a picture, or features and a network's.

    Attributes
    ----------
    survey
        The survey.
    pictures
        Folder of its prepared pictures. None: features are read, and no pictures.
    network
        Network whose features join those of `predict`. None: pictures are read, if there is a
        folder.
    """

    survey: HuntedSurvey
    pictures: Folder | None = None
    network: SourceNetwork | None = None

    def blocks(self) -> Iterator[tuple[Rows, Features, npt.NDArray[Any]]]:
        """Yield rows, features of `predict` and values of usable objects, block by block."""
        for number, (rows, features) in enumerate(self.survey.blocks()):
            if len(rows):
                yield rows, features, self._values(number, features)

    def of_rows(self, wanted: Rows) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the usable rows among the wanted ones, and their values, in survey order."""
        known_rows, parts = [np.empty(0, np.int64)], []
        for rows, _, values in self.blocks():
            kept = np.isin(rows, wanted)
            known_rows.append(rows[kept])
            parts.append(values[kept])
        return np.concatenate(known_rows), np.concatenate(parts)

    def _values(self, number: int, features: Features) -> npt.NDArray[Any]:
        if self.pictures is None:
            return features
        if self.network is None:
            return read_block(self.pictures, number)
        name = f"{JOINED}-{number:06d}.safetensors"  # the survey passes several times
        if (packed := checked.read(self.pictures, name)) is None:
            joined = self.network.join(features, read_block(self.pictures, number))
            packed = pack_tensors({JOINED: torch.tensor(joined)})
            checked.write(self.pictures, name, packed)
        return unpack_tensors(packed)[0][JOINED].numpy()
