"""Write a small curated set with votes, and a generator with random weights."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from raydistill.artifacts.manifest import commit
from raydistill.diffusion.model import build_generator
from raydistill.diffusion.network_options import Mlp
from raydistill.diffusion.options import ComponentSpace, Model, Sampling
from raydistill.galaxies.classes import ClassTree, GalaxyClass
from raydistill.galaxies.pictures.images import encode_png
from raydistill.galaxies.trees import GZ2
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate import artifact as curated
from raydistill.stages.curate.artifact import CuratedSet, partition
from raydistill.stages.curate.select.conditions import fit_encoding
from raydistill.stages.curate.summary import ClassSummary, Summary
from raydistill.stages.generate.artifact import SUMMARY, GeneratorSummary, write_model
from raydistill.storage import Folder

SIZE = 8
MODEL = Model(Mlp(width=16, blocks=1), space=ComponentSpace(components=8))
NAMES = ("round", "disk")
CLASSES = ClassTree("two", (GalaxyClass("round", (("smooth",),)), GalaxyClass("disk", (("features_or_disk",),))))


def votes_of(number: int, label: int) -> np.ndarray:
    """Return votes of a galaxy that is not an artifact; smooth if the label is 0.

    Number 0 is smooth without doubt.
    """
    draws = np.random.default_rng(number)
    votes_A = np.concatenate([draws.dirichlet(np.ones(len(task.answers))) for task in GZ2.tasks])
    smooth = draws.uniform(0.6, 0.9) if label == 0 else draws.uniform(0.1, 0.4)
    votes_A[:3] = (smooth, 1 - smooth, 0) if number else (1, 0, 0)
    return votes_A.astype(np.float32)


def write_curated(folder: Folder, per_class: int = 6) -> CuratedSet:
    """Write a curated set of two classes.

    One galaxy of each class is in the test split, all others in the training split.
    """
    for label, name in enumerate(NAMES):
        rows = [_galaxy(10 * label + number, label, name) for number in range(per_class)]
        for split, row in (("train", rows[1:]), ("test", rows[:1])):
            with folder.writing(partition(split, label)) as path:
                pq.write_table(pa.Table.from_pylist(row, curated.SCHEMA), path)
    counts = tuple(ClassSummary(name, per_class, per_class, per_class - 1, 0, 1, 0.5) for name in NAMES)
    summary = Summary("small", True, SIZE, 0.5, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), counts, {})
    folder.write("summary.json", summary.to_json())
    commit(folder, kind=curated.KIND, identity="i", config={}, parents={}, seed=0, uris={})
    return CuratedSet.open(folder)


def _galaxy(number: int, label: int, name: str) -> dict[str, object]:
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return {
        "object_id": f"g{number:02d}", "class_name": name, "petro_r90": 5.0 + number, "confidence": 0.7,
        "votes": votes_of(number, label).tolist(), "source": {"path": "a.jpg", "sha256": "00"}, "image": encode_png(pixels),
    }  # fmt: skip


def write_generator(plan: Plan, *groups: str) -> None:
    """Write the plan's generator: principal components, random weights.

    The principal components are those of the training images.
    """
    galaxies = CuratedSet.open(plan.curated.folder)
    info, size = galaxies.summary, galaxies.summary.image_size
    encoding = fit_encoding(galaxies, groups or None)
    generator = build_generator(MODEL, encoding.layout, size, 0, galaxies.load("train").images_NHWC)
    draws = torch.Generator().manual_seed(0)
    for parameter in generator.network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=draws)
    summary = GeneratorSummary(
        survey=info.survey, simulated=info.simulated, image_size=size, crop_fraction=info.crop_fraction, aligned=info.aligned,
        class_names=tuple(galaxies.class_names), tree=info.tree, encoding=encoding, model=MODEL, sampling=Sampling(steps=2),
        num_images=1, num_parameters=1, steps=0, batch_size=1,
    )  # fmt: skip
    plan.generator.folder.write(SUMMARY, summary.to_json())
    write_model(plan.generator.folder, generator)
    plan.generator.commit()
