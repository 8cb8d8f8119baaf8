"""A distilled set holds all that is needed elsewhere, in reproducible bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from raydistill.artifacts.manifest import commit
from raydistill.artifacts.tensors import WHITENING, read_tensors, write_tensors
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing
from raydistill.learning.normalise import Normalisation, PixelSums
from raydistill.stages.distill.artifact import (
    INITIAL,
    KIND,
    LAST,
    SELECTED,
    DistilledSet,
    SyntheticImages,
    read_images,
    write_frame,
    write_images,
)
from raydistill.stages.distill.counts import header_of
from raydistill.storage import Folder
from tests import zoo

INFO = {"class_names": ["Er", "Sb é"], "images_per_class": 2}
NORMALISATION = Normalisation((0.1, 0.2, 0.3), (0.01, 0.02, 1 / 3))


def synthetic(seed: int = 0) -> SyntheticImages:
    return SyntheticImages(
        zoo.normal(seed, 4, 3, 8, 8, dtype=torch.float32),
        zoo.normal(seed + 1, 4, 2, dtype=torch.float32).softmax(dim=1),
        torch.tensor([0.01, 0.02]),
        NORMALISATION,
        iteration=120 + seed,
    )


def test_images_are_read_bit_for_bit(folder: Folder) -> None:
    images = synthetic()
    write_images(folder, SELECTED, images, INFO)
    back, info = read_images(folder, SELECTED)
    assert torch.equal(back.images_SCHW, images.images_SCHW)
    assert torch.equal(back.targets_SK, images.targets_SK)
    assert torch.equal(back.student_lrs, images.student_lrs)
    assert back.normalisation == NORMALISATION  # float64 through JSON: exact
    assert back.iteration == 120
    assert info["class_names"] == INFO["class_names"]


def test_write_open_write_is_byte_identical(folder: Folder) -> None:
    write_images(folder, SELECTED, synthetic(), INFO)
    back, info = read_images(folder, SELECTED)
    write_images(folder, "again.safetensors", back, info)
    assert folder.read("again.safetensors") == folder.read(SELECTED)


def test_bytes_do_not_depend_on_the_order_of_tensors(folder: Folder) -> None:
    tensors = {"b": torch.ones(2), "a": torch.zeros(3), "n": torch.tensor(1)}
    write_tensors(folder, "one", tensors, {"x": 1, "y": 2})
    write_tensors(folder, "other", dict(reversed(tensors.items())), {"y": 2, "x": 1})
    assert folder.read("one") == folder.read("other")


def test_views_are_stored_with_their_visible_values(folder: Folder) -> None:
    grid = torch.arange(6.0).view(2, 3)
    write_tensors(folder, "t", {"turned": grid.T, "column": grid[:, 1]}, {})
    back, _ = read_tensors(folder, "t")
    assert torch.equal(back["turned"], grid.T)
    assert torch.equal(back["column"], grid[:, 1])


def test_plain_safetensors_reads_it(folder: Folder) -> None:
    write_images(folder, SELECTED, synthetic(), INFO)
    with safetensors.safe_open(folder.local(SELECTED), "pt") as opened:
        assert set(opened.keys()) == {"images", "targets", "student_lrs"}
        about = json.loads(opened.metadata()["raydistill"])
    assert about["mean"] == [0.1, 0.2, 0.3]
    assert about["class_names"] == ["Er", "Sb é"]


def test_display_undoes_the_normalisation() -> None:
    images = synthetic()
    pictures = images.display()
    assert pictures.shape == (4, 8, 8, 3)
    expected = images.images_SCHW[1, 2, 3, 4] / 3 + 0.3
    assert float(pictures[1, 3, 4, 2]) == pytest.approx(float(expected.clamp(0, 1)))
    assert float(images.pixels()[1, 3, 4, 2]) == pytest.approx(float(expected))
    assert images.pixels().min() < 0 < 1 < images.pixels().max()


# ---- whitened images ----


def whitened(seed: int = 0) -> SyntheticImages:
    """Return images with the whitening of 50 noise images."""
    sums = PixelSums(3 * 8 * 8)
    sums.add((255 * zoo.normal(9, 50, 8, 8, 3).sigmoid()).to(torch.uint8))
    return replace(synthetic(seed), normalisation=sums.whitening(0.1))


def test_a_whitened_set_is_read_with_its_whitening(folder: Folder) -> None:
    images = whitened()
    write_images(folder, SELECTED, images, INFO)
    back, info = read_images(folder, SELECTED)
    assert torch.equal(back.images_SCHW, images.images_SCHW)
    assert torch.equal(back.display(), images.display())
    assert back.normalisation.digest == images.normalisation.digest
    first = [folder.read(name) for name in (SELECTED, WHITENING)]
    write_images(folder, SELECTED, back, info)
    assert [folder.read(name) for name in (SELECTED, WHITENING)] == first


def test_two_iterates_share_one_whitening(folder: Folder) -> None:
    write_images(folder, SELECTED, whitened(0), INFO)
    write_images(folder, LAST, whitened(5), INFO)
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    assert [name for name in folder.files() if name.endswith(".safetensors")] == [LAST, SELECTED, WHITENING]
    opened = DistilledSet.open(folder.uri)
    assert torch.equal(opened.last.display(), whitened(5).display())
    assert torch.equal(opened.selected.display(), whitened(0).display())


def test_plain_safetensors_undoes_a_whitening(folder: Folder) -> None:
    write_images(folder, SELECTED, whitened(), INFO)
    with safetensors.safe_open(folder.local(SELECTED), "np") as opened:
        images = opened.get_tensor("images")
        about = json.loads(opened.metadata()["raydistill"])
    assert not {"mean", "std"} & set(about), "numbers that would not undo the whitening"
    undo = safetensors.numpy.load(folder.read(about["whitening"]))
    pictures = images.reshape(len(images), -1) @ undo["inverse"] + undo["mean"]
    pictures = pictures.reshape(images.shape).transpose(0, 2, 3, 1).clip(0, 1)
    np.testing.assert_allclose(pictures, whitened().display().numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(undo["forward"] @ undo["inverse"], np.eye(192), rtol=0, atol=1e-5)


def test_images_without_their_whitening_file_are_rejected(folder: Folder) -> None:
    write_images(folder, SELECTED, whitened(), INFO)
    tensors, info = read_tensors(folder, WHITENING)
    write_tensors(folder, WHITENING, {name: tensors[name] for name in ("mean", "forward")}, info)
    with pytest.raises(ArtifactCorrupt, match=rf"'{WHITENING}' lacks 'inverse'"):
        read_images(folder, SELECTED)
    folder.remove(WHITENING)
    with pytest.raises(ArtifactMissing, match=rf"there is no '{WHITENING}'"):
        read_images(folder, SELECTED)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_corrupt(folder: Folder, keep: int) -> None:
    write_images(folder, SELECTED, synthetic(), INFO)
    folder.write(SELECTED, folder.read(SELECTED)[:keep])
    with pytest.raises(ArtifactCorrupt, match=r"'images\.safetensors' is damaged or no safetensors file"):
        read_images(folder, SELECTED)


def test_a_safetensors_file_of_another_program_is_corrupt(folder: Folder) -> None:
    for name, metadata in (("bare", None), ("other", {"format": "pt"}), ("garbled", {"raydistill": "{"})):
        folder.write(name, safetensors.torch.save({"images": torch.zeros(2)}, metadata))
        with pytest.raises(ArtifactCorrupt, match=f"'{name}' is damaged or no safetensors file of raydistill"):
            read_images(folder, name)


@pytest.mark.parametrize("lost", ["images", "targets", "student_lrs", "mean", "iteration"])
def test_a_file_that_lacks_a_tensor_or_header_entry_is_corrupt(folder: Folder, lost: str) -> None:
    tensors = {"images": torch.zeros(1), "targets": torch.zeros(1), "student_lrs": torch.zeros(1)}
    info = {"mean": [0.0] * 3, "std": [1.0] * 3, "iteration": 0}
    for part in (tensors, info):
        part.pop(lost, None)
    write_tensors(folder, SELECTED, tensors, info)
    with pytest.raises(ArtifactCorrupt, match=lost):
        read_images(folder, SELECTED)


def test_a_distilled_set_opens_with_all_its_parts(folder: Folder) -> None:
    write_images(folder, SELECTED, synthetic(0), INFO)
    write_images(folder, LAST, synthetic(5), INFO)
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    opened = DistilledSet.open(folder.uri)
    assert (opened.class_names, opened.images_per_class) == (["Er", "Sb é"], 2)
    assert (opened.selected.iteration, opened.last.iteration) == (120, 125)
    folder.remove(LAST)
    with pytest.raises(ArtifactMissing):
        DistilledSet.open(folder, verify=False)


UNEQUAL = {"class_names": ["Er", "Sb é"], **header_of([3, 1])}


def test_classes_may_have_different_numbers_of_images(folder: Folder) -> None:
    assert header_of([2, 2]) == {"images_per_class": 2}, "sets of equal classes keep their bytes"
    for name in (SELECTED, LAST):
        write_images(folder, name, synthetic(0), UNEQUAL)
    write_frame(folder, synthetic(0), [3, 1])
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    opened = DistilledSet.open(folder.uri)
    assert (opened.counts, opened.images_per_class, opened.first_rows) == ((3, 1), 2, [0, 3])
    assert opened.labels.tolist() == [0, 0, 0, 1]
    np.testing.assert_array_equal(opened.frames()[120], synthetic(0).levels())


@pytest.mark.parametrize(
    "entries",
    [
        *({"counts": counts} for counts in ([4, 1], [4], [4, 0], [-1, 5], [2, 1, 1], ["x"], [3.5, 0.5], {"a": 1})),
        {"images_per_class": "two"}, {"images_per_class": 0}, {"class_names": []},
    ],
)  # fmt: skip
def test_counts_that_do_not_fit_are_damage(folder: Folder, entries: dict[str, object]) -> None:
    for name in (SELECTED, LAST):
        write_images(folder, name, synthetic(0), INFO | entries)
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    with pytest.raises(ArtifactCorrupt):
        DistilledSet.open(folder.uri)


def test_residuals_of_sets_with_other_counts_are_not_compared(folder: Folder, tmp_path: Path) -> None:
    equal, other = with_initial(folder, synthetic(3), seed=0), Folder(str(tmp_path / "other"))
    for name in (SELECTED, LAST, INITIAL):
        write_images(other, name, synthetic(0), UNEQUAL)
    commit(other, kind=KIND, identity="o", config={}, parents={}, seed=0, uris={})
    with pytest.raises(ArtifactIncompatible, match="its classes have 3, 1 images, those of the first set 2, 2"):
        equal.residual(DistilledSet.open(other))


def with_initial(folder: Folder, initial: SyntheticImages, *, seed: int) -> DistilledSet:
    for name, images in ((SELECTED, synthetic(seed)), (LAST, synthetic(seed)), (INITIAL, initial)):
        write_images(folder, name, images, INFO)
    commit(folder, kind=KIND, identity="i", config={}, parents={}, seed=0, uris={})
    return DistilledSet.open(folder)


def test_residual_is_prototype_minus_initial_image_in_pixels(folder: Folder) -> None:
    made = with_initial(folder, synthetic(9), seed=0)
    residual = made.residual()
    scale = torch.tensor([0.01, 0.02, 1 / 3])
    expected = (synthetic(0).images_SCHW - synthetic(9).images_SCHW).permute(0, 2, 3, 1) * scale
    np.testing.assert_allclose(residual.mean_SHWC, expected, atol=1e-6)
    assert residual.n == 1
    assert np.isnan(residual.signal_to_noise_SHW).all()


def test_residual_of_several_sets_has_signal_to_noise(tmp_path: Path) -> None:
    sets = [with_initial(Folder(tmp_path / str(n)), synthetic(9), seed=n) for n in range(3)]
    residual = sets[0].residual(*sets[1:])
    single = np.stack([made.residual().mean_SHWC for made in sets])
    np.testing.assert_allclose(residual.mean_SHWC, single.mean(axis=0), atol=1e-12)
    grey = single.mean(axis=4)
    expected = grey.mean(axis=0) / (grey.std(axis=0, ddof=1) / np.sqrt(3))
    np.testing.assert_allclose(residual.signal_to_noise_SHW, expected, rtol=1e-9)
    assert residual.n == 3
