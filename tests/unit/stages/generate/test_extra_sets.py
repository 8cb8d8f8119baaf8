"""Further curated sets of a generator: fit, exclusions, conditions, identity."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from raydistill.artifacts.manifest import commit
from raydistill.diffusion.training import TrainingImages
from raydistill.errors import ArtifactIncompatible, ArtifactMissing
from raydistill.galaxies.selection import SPLITS
from raydistill.galaxies.trees import GZ2
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import spec_of
from raydistill.stages.curate.artifact import KIND, SCHEMA, CuratedSet, partition
from raydistill.stages.curate.feeding.extra_sets import ExtraSet, extra_row_groups, open_extra_sets, without_held_out
from raydistill.stages.curate.feeding.feed import Pictures, UsedGroup, used_groups
from raydistill.stages.curate.select.conditions import ConditionEncoding, fit_encoding
from raydistill.stages.curate.summary import ClassSummary, Summary
from raydistill.storage import Folder
from tests.unit.config_tools import SIMULATED, Read

SIZE, ANSWERS = 16, len(GZ2.answers)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def brighter(pixels: np.ndarray) -> np.ndarray:
    """Return a copy that looks alike and has another file."""
    return np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8)


def galaxy(number: int, name: str = "", *, pixels: np.ndarray | None = None, votes: bool = False) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(picture(number) if pixels is None else pixels).save(buffer, "PNG")
    return {
        "object_id": name or f"g{number:02d}",
        "source": {"path": f"{number}.png", "sha256": f"{number:064d}"},
        "votes": [number / 100] * ANSWERS if votes else None,
        "image": buffer.getvalue(),
    }


def write(
    folder: Folder, rows: dict[tuple[str, int], list[dict[str, object]]], names: tuple[str, ...], **summary: object
) -> CuratedSet:
    """Write galaxies by split and label."""
    entries = []
    for label, name in enumerate(names):
        counts = {split: len(rows.get((split, label), [])) for split in SPLITS}
        total, (train, validation, test) = sum(counts.values()), counts.values()
        entries.append(ClassSummary(name, total, total, train, validation, test, None))
        for split in (split for split, count in counts.items() if count):
            with folder.writing(partition(split, label)) as path:
                galaxies = [row | {"class_name": name} for row in rows[split, label]]
                pq.write_table(pa.Table.from_pylist(galaxies, SCHEMA), path)
    values = {"image_size": SIZE, "crop_fraction": 0.5, "aligned": True} | summary
    white = (0.5, 0.5, 0.5)
    folder.write(
        "summary.json",
        Summary("survey", False, mean=white, std=white, classes=tuple(entries), rejected={}, **values).to_json(),  # type: ignore[arg-type]
    )
    commit(folder, kind=KIND, identity=folder.uri[-8:], config={}, parents={}, seed=0, uris={})
    return CuratedSet.open(folder)


def decoded(groups: tuple[UsedGroup, ...], encoding: ConditionEncoding) -> TrainingImages:
    return Pictures(groups, SIZE, encoding).decode(pa.concat_tables([group.read_used(encoding) for group in groups]))


@pytest.fixture
def main(folder: Folder) -> CuratedSet:
    rows = {
        ("train", 0): [galaxy(1)],
        ("train", 1): [galaxy(2)],
        ("validation", 0): [galaxy(3)],
        ("test", 1): [galaxy(4), galaxy(5)],
    }
    return write(folder / "main", rows, ("Er", "Sb"))


def test_held_out_galaxies_are_left_out_by_id_file_and_looks(folder: Folder, main: CuratedSet) -> None:
    rows = {
        ("train", 0): [
            galaxy(1, "a copy of a training galaxy stays"),
            galaxy(10, "other"),
            galaxy(11, "g03"),  # the id of a validation galaxy
            galaxy(4, "same file", pixels=picture(12)),
            galaxy(13, "looks alike", pixels=brighter(picture(5))),
        ]
    }
    extra = write(folder / "extra", rows, ("unlabelled",))
    (result,) = without_held_out([extra], main, "generate")
    assert result.left_out == {"g03", "same file", "looks alike"}
    images = decoded(extra_row_groups(result, main), fit_encoding(main))
    assert np.array_equal(images.images_NHWC, [picture(1), picture(10)])


def test_conditions_are_those_that_an_extra_set_has(folder: Folder, main: CuratedSet) -> None:
    rows = {("train", 0): [galaxy(20, votes=True)], ("train", 1): [galaxy(21, votes=True)]}
    extra = write(folder / "extra", rows, ("Sb", "Irr"))
    encoding = fit_encoding(main, None, [extra])
    assert encoding.groups == ("votes", "class")
    further = extra_row_groups(ExtraSet(extra.folder.uri, frozenset()), main)
    both = decoded(used_groups(main, "train") + further, encoding)
    votes, classes = encoding.layout.slice("votes"), encoding.layout.slice("class")
    known = both.conditions.known_BV
    assert known[:, votes].all(dim=1).tolist() == [False, False, True, True]
    assert known[:, classes].all(dim=1).tolist() == [True, True, True, False]  # the own set has no class Irr
    assert both.conditions.values_BV[2, classes].tolist() == [0, 1]  # Sb is label 0 there, and 1 here
    assert torch.allclose(both.conditions.values_BV[3, votes], torch.tensor(0.21))
    assert len(both.images_NHWC) == 4


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"image_size": 32}, "has the image_size 32, and the survey's own set 16"),
        ({"crop_fraction": 0.75}, "has the crop_fraction 0.75, and the survey's own set 0.5"),
        ({"aligned": False}, "curate it again with curate.align=true"),
        (
            {"tree": "gz-decals"},
            "votes answer the questions of gz-decals, .* gz2; leave the set out of generate.extra_sets",
        ),
    ],
)
def test_sets_that_do_not_fit_are_rejected(
    folder: Folder, main: CuratedSet, summary: dict[str, object], message: str
) -> None:
    extra = write(folder / "extra", {("train", 0): [galaxy(20, votes=True)]}, ("unlabelled",), **summary)
    with pytest.raises(ArtifactIncompatible, match=message):
        open_extra_sets([extra.folder], main, "generate.extra_sets")


def test_an_encoder_learns_from_any_view(folder: Folder, main: CuratedSet) -> None:
    view = {"crop_fraction": 0.75, "aligned": False, "tree": "gz-decals"}
    other = write(folder / "other", {("train", 0): [galaxy(20, votes=True)]}, ("unlabelled",), **view)
    assert len(open_extra_sets([other.folder], main, "pretrain.extra_sets", same_view=False)) == 1
    larger = write(folder / "larger", {("train", 0): [galaxy(20)]}, ("unlabelled",), image_size=32)
    with pytest.raises(ArtifactIncompatible, match="has the image_size 32"):
        open_extra_sets([larger.folder], main, "pretrain.extra_sets", same_view=False)


def test_extra_set_of_another_survey_without_votes_fits(folder: Folder, main: CuratedSet) -> None:
    extra = write(folder / "extra", {("train", 0): [galaxy(20)]}, ("unlabelled",), tree="gz-decals")
    assert [set_.folder for set_ in open_extra_sets([extra.folder], main, "generate.extra_sets")] == [extra.folder]


def test_set_without_training_galaxies_is_rejected(folder: Folder, main: CuratedSet) -> None:
    extra = write(folder / "extra", {("test", 0): [galaxy(20)]}, ("unlabelled",))
    with pytest.raises(ArtifactIncompatible, match="the train split holds no galaxy"):
        open_extra_sets([extra.folder], main, "generate.extra_sets")


def test_extra_sets_are_in_the_identity_by_content_and_not_by_path(folder: Folder, read: Read) -> None:
    def identity(*sets: CuratedSet) -> str:
        paths = ",".join(set_.folder.uri for set_ in sets)
        return Plan(read(SIMULATED, f"generate.extra_sets=[{paths}]")).generator.identity

    rows = {("train", 0): [galaxy(20)]}
    first, second = write(folder / "first", rows, ("unlabelled",)), write(folder / "other", rows, ("unlabelled",))
    moved = folder / "moved"
    for name in first.folder.files():
        moved.write(name, first.folder.read(name))
    assert identity(first) == identity(CuratedSet.open(moved))
    assert len({identity(), identity(first), identity(second), identity(first, second), identity(second, first)}) == 5


def test_missing_extra_set_is_named(read: Read, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=r"no finished curated set is here; correct generate.extra_sets"):
        spec_of(Plan(read(SIMULATED, f"generate.extra_sets=[{tmp_path}/none]")), "generate")
