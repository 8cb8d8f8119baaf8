"""Test which sets can be audited, and what is read from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill.artifacts.manifest import commit
from raydistill.errors import ArtifactIncompatible
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.stages.audit import inputs
from raydistill.stages.audit.inputs import Galaxies, open_audited
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import LAST, SELECTED, SyntheticImages, write_images
from raydistill.storage import Folder
from tests.unit.stages.sample_tools import NAMES, SIZE, write_curated


@pytest.fixture
def curated(tmp_path: Path) -> CuratedSet:
    return write_curated(Folder(tmp_path / "curated"))


def write_distilled(folder: Folder, curated: CuratedSet) -> ArtifactSpec:
    """Write a distilled set of two images per class; pixels grow from image to image."""
    pixels = torch.linspace(0, 1, 4)[:, None, None, None].expand(4, SIZE, SIZE, 3)
    normalised = (pixels - torch.tensor(curated.summary.mean)) / torch.tensor(curated.summary.std)
    images = SyntheticImages(
        normalised.permute(0, 3, 1, 2), torch.eye(2).repeat_interleave(2, 0), torch.ones(1), curated.normalisation, 5
    )
    for name in (SELECTED, LAST):
        write_images(folder, name, images, {"class_names": list(NAMES), "images_per_class": 2})
    identity = "0123456789abcdef" * 4
    commit(
        folder, kind="distilled", identity=identity, config={}, parents={"curated": curated.manifest}, seed=0,
        uris={"curated": curated.folder.uri},
    )  # fmt: skip
    return ArtifactSpec("distilled", identity, folder, 0, {}, {})


def test_a_distilled_set_is_compared_with_the_test_split_alone(curated: CuratedSet, tmp_path: Path) -> None:
    """Its validation galaxies chose the images."""
    audited = open_audited(write_distilled(Folder(tmp_path / "distilled"), curated), curated)
    assert (audited.kind, audited.held_out) == ("distilled", ("test",))
    assert audited.images(np.arange(4))[:, 0, 0, 0].tolist() == [0, 85, 170, 255]
    assert audited.labels_N is not None
    assert audited.labels_N.tolist() == [0, 0, 1, 1]
    assert audited.object_ids[3] == "distilled-01234567-00003"


def test_a_set_of_another_curated_set_is_rejected(curated: CuratedSet, tmp_path: Path) -> None:
    spec = write_distilled(Folder(tmp_path / "distilled"), curated)
    other = write_curated(Folder(tmp_path / "other"), per_class=7)
    with pytest.raises(ArtifactIncompatible, match=r"its pictures were made from another curated set than .*other"):
        open_audited(spec, other)


def test_another_curated_set_gives_all_its_galaxies_and_the_same_classes(curated: CuratedSet, tmp_path: Path) -> None:
    other = write_curated(Folder(tmp_path / "other"), per_class=4)
    audited = open_audited(ArtifactSpec("curated", other.manifest.identity, other.folder, 0, {}, {}), curated)
    assert (audited.kind, audited.survey, len(audited)) == ("curated", "small", 8)
    splits = [other.load(name) for name in ("train", "test")]
    assert audited.object_ids == [name for split in splits for name in split.object_ids]
    assert audited.labels_N is not None
    assert audited.labels_N.tolist() == [label for split in splits for label in split.labels_N.tolist()]
    np.testing.assert_array_equal(
        audited.images(np.array([2, 7])), [splits[0].images_NHWC[2], splits[1].images_NHWC[1]]
    )
    renamed = replace(other, summary=replace(other.summary, classes=other.summary.classes[::-1]))
    assert inputs.other_survey(renamed, curated).labels_N is None
    larger = replace(other, summary=replace(other.summary, image_size=2 * SIZE))
    with pytest.raises(ArtifactIncompatible, match=f"curate it again with curate.image_size={SIZE}"):
        inputs.other_survey(larger, curated)


def test_galaxies_of_two_sets_are_numbered_one_after_the_other(curated: CuratedSet, tmp_path: Path) -> None:
    other = write_curated(Folder(tmp_path / "other"), per_class=4)
    galaxies = Galaxies([curated, other], ("train",))
    assert len(galaxies) == 10 + 6
    assert galaxies.labels_N.tolist() == [0] * 5 + [1] * 5 + [0] * 3 + [1] * 3
    expected = [*curated.table("train", ["object_id"])["object_id"].to_pylist()]
    assert galaxies.column("object_id").to_pylist()[:10] == expected
    loaded, rows = other.load("train"), np.array([12, 1, 15])
    images = galaxies.images(rows)
    np.testing.assert_array_equal(images[[0, 2]], loaded.images_NHWC[[2, 5]])
    np.testing.assert_array_equal(images[1], curated.load("train").images_NHWC[1])
    inside = [galaxies.rows_in(number, np.array([1, 4, 5, 12])).tolist() for number in range(4)]
    assert inside == [[1, 4], [0], [2], []]
    assert len({group.name for group in galaxies.groups}) == 4
