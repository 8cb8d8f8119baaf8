"""Test the sources of synthetic sets.

They are injection, the simulator, and a generator that starts from real galaxies.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ray_tools import SILENT, copy_of, tiny

from raydistill.errors import ConfigError
from raydistill.morphology.recombination import decompose, recombine
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import lineage
from raydistill.runtime.ray_data import map_blocks
from raydistill.seeding import fold_in
from raydistill.simulation.injections import DustLane
from raydistill.simulation.injections.base import lupton_contrast
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.sample import stage
from raydistill.stages.sample.artifact import SyntheticSet
from tests.unit.stages.sample_tools import write_generator

pytestmark = pytest.mark.usefixtures("cluster")

INPUTS = ("survey", "curated")
FEW = ("sample.block_size=4", "sample.num_images=11")
INJECTION = ("sample.source={kind: injection, model: {kind: dust_lane, depth: [1, 2]}}",)
RECOMBINATION = ("sample.source={kind: recombination, similar: 3}",)
SIMULATOR = ("sample.source={kind: simulator, picture_size: 64, parameters: {dust_lane: [0.5, 1.5]}}",)
START = ("sample.source={kind: generator, strength: 0.2}", "sample.sampling={steps: 2, guidance: 1}")


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with the curated set, and a generator with random weights."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("sources"), *INPUTS)
    write_generator(Plan(tiny(root)))
    return root


@pytest.fixture(scope="module")
def training(root: Path) -> Any:
    """Return the training galaxies by object id."""
    return CuratedSet.open(Plan(tiny(root)).curated.folder).to_pandas("train").set_index("object_id")


def made(root: Path, *overrides: str) -> SyntheticSet:
    return stage.sample(Plan(tiny(root, *FEW, *overrides)), SILENT)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.fixture(scope="module")
def injected(root: Path) -> SyntheticSet:
    return made(root, "resources.workers=1", *INJECTION)


def test_an_injection_changes_training_galaxies_and_records_the_truth(injected: SyntheticSet, training: Any) -> None:
    model = DustLane(depth=(1.0, 2.0), contrast=lupton_contrast(10))
    rows = injected.to_pandas()
    assert len(rows) == 11
    assert set(rows["made_by"]) == {"injection"}
    assert set(rows["injected"]) == {"dust_lane"}
    assert rows["synthetic"].all()
    for row in rows.itertuples():
        host = training.loc[row.origin]
        assert (host["label"], host["petro_r90"], host["confidence"]) == (row.label, row.petro_r90, row.confidence)
        np.testing.assert_array_equal(model.apply(pixels(host["image"]), row.parameters), pixels(row.image))
        assert f"synthetic: dust_lane injected into {row.origin}" in Image.open(io.BytesIO(row.image)).text["Comment"]
    assert rows["votes"].isna().all()
    assert injected.real_galaxies() == set(rows["origin"])
    assert injected.summary.source["model"]["contrast"] == pytest.approx(8.81, abs=0.01)
    assert "generator" not in injected.manifest.parents


def test_zero_depth_gives_the_same_galaxies_as_negatives(injected: SyntheticSet, root: Path, training: Any) -> None:
    negatives = made(root, "sample.source={kind: injection, model: {kind: dust_lane, depth: [0, 0]}}").to_pandas()
    assert negatives["origin"].tolist() == injected.to_pandas()["origin"].tolist()
    assert negatives["injected"].isna().all()
    assert {truth["depth"] for truth in negatives["parameters"]} == {0.0}
    for row in negatives.itertuples():
        np.testing.assert_array_equal(pixels(row.image), pixels(training.loc[row.origin]["image"]))


def test_a_recombination_has_the_class_of_the_donor_and_the_sky_of_a_similar_host(root: Path, training: Any) -> None:
    rows = made(root, *RECOMBINATION).to_pandas()
    assert set(rows["made_by"]) == {"recombination"}
    contrast = lupton_contrast(10)
    for row in rows.itertuples():
        assert (training.loc[row.origin]["label"], row.confidence) == (
            row.label,
            training.loc[row.origin]["confidence"],
        )
        donor, host = (pixels(training.loc[name]["image"]) for name in (row.origin, row.start))
        assert f"inner parts of {row.origin} in {row.start}" in Image.open(io.BytesIO(row.image)).text["Comment"]
        rng = np.random.default_rng(fold_in(0, "recombination", row.index))
        parts = [decompose(picture, contrast) for picture in (donor, host)]
        np.testing.assert_array_equal(recombine(*parts, contrast, rng), pixels(row.image))
    assert (rows["origin"] != rows["start"]).all()
    pairs = made(root, "sample.source={kind: recombination, part: companion, flux: [0, 0]}").to_pandas()
    for row in pairs.itertuples():
        assert training.loc[row.origin]["label"] == row.label
        np.testing.assert_array_equal(pixels(row.image), pixels(training.loc[row.origin]["image"]))


def test_classes_label_and_examples_of_an_injection(root: Path, training: Any) -> None:
    example = training[training["class_name"] == "round"].index[0]
    source = f"sample.source={{kind: injection, classes: [round], label: spiral, examples: ['{example}']}}"
    labelled = made(root, source)
    rows = labelled.to_pandas()
    assert set(rows["class_name"]) == {"spiral"}
    assert {training.loc[origin]["class_name"] for origin in rows["origin"]} == {"round"}
    assert example not in set(rows["origin"])
    assert example in labelled.real_galaxies()
    low, high = labelled.summary.source["model"]["depth"]
    assert 0.2 <= low < high <= 1.5
    assert (low, high) != (0.2, 1.5)
    held_out = CuratedSet.open(Plan(tiny(root)).curated.folder).table("test", ["object_id"])["object_id"][0].as_py()
    with pytest.raises(ConfigError, match="the training split has no galaxy"):
        made(root, f"sample.source={{kind: injection, examples: ['{held_out}']}}")


def test_simulator_renders_classes_with_given_parameters(root: Path) -> None:
    rows = made(root, *SIMULATOR, "sample.source.classes=[smooth_round, smooth_cigar, bar_spiral]").to_pandas()
    assert rows["label"].value_counts().to_dict() == {0: 4, 2: 4, 4: 3}  # round, cigar, spiral
    assert {int(truth["class"]) for truth in rows["parameters"]} == {0, 2, 5}
    assert all(0.5 <= truth["dust_lane"] <= 1.5 for truth in rows["parameters"])
    assert [truth["petro_r90"] for truth in rows["parameters"]] == rows["petro_r90"].tolist()
    assert set(rows["made_by"]) == {"simulator"}
    assert rows["origin"].isna().all()
    assert pixels(rows["image"][0]).shape == (16, 16, 3)


def test_a_start_keeps_much_of_a_training_galaxy_of_the_class(root: Path, training: Any) -> None:
    rows = made(root, *START).to_pandas()
    assert rows["start"].tolist() == rows["origin"].tolist()
    starts = [pixels(training.loc[name]["image"]).astype(float) for name in rows["start"]]
    images = [pixels(png).astype(float) for png in rows["image"]]
    kept = np.mean([np.abs(image - start).mean() for image, start in zip(images, starts, strict=True)])
    free = [pixels(png).astype(float) for png in made(root, START[1]).to_pandas()["image"]]
    assert kept < 0.5 * np.mean([np.abs(image - start).mean() for image, start in zip(free, starts, strict=True)])
    other = made(root, "sample.source={kind: generator, strength: 0.2, start_classes: [round]}", START[1]).to_pandas()
    assert {training.loc[name]["class_name"] for name in other["start"]} == {"round"}
    assert other["origin"].tolist() == rows["origin"].tolist()


def test_blocks_in_groups_of_two_give_equal_bits(
    injected: SyntheticSet, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def count(tables: list[Any], *arguments: Any) -> Any:
        sizes.append(len(tables))
        return map_blocks(tables, *arguments)

    monkeypatch.setattr(stage, "BLOCKS_AT_ONCE", 2)
    monkeypatch.setattr(stage, "map_blocks", count)
    assert made(copy_of(root, tmp_path, *INPUTS), *INJECTION).manifest.content == injected.manifest.content
    assert sum(sizes) == sum(-(-entry.kept // 4) for entry in injected.summary.classes)
    assert max(sizes) == 2


@pytest.mark.parametrize(
    "source", [INJECTION, RECOMBINATION, SIMULATOR, START], ids=["injection", "recombination", "simulator", "start"]
)
def test_two_workers_and_a_resumed_stage_give_equal_bits(
    source: tuple[str, ...], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = (*INPUTS, "generator")
    expected = made(copy_of(root, tmp_path / "one", *kinds), "resources.workers=1", *source)
    plan = Plan(tiny(copy_of(root, tmp_path / "two", *kinds), *FEW, "resources.workers=2", *source))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "merge_blocks", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.sample(plan, SILENT)
    blocks = sorted((Path(plan.synthetic.folder.uri) / "partial" / "blocks").iterdir())
    blocks[1].unlink()
    resumed = stage.sample(plan, SILENT)
    assert resumed.manifest.content == expected.manifest.content


def test_only_the_generator_needs_a_generator(tmp_path: Path) -> None:
    for source, needed in ((INJECTION, False), (RECOMBINATION, False), (SIMULATOR, False), (START, True)):
        plan = Plan(tiny(tmp_path, *source))
        assert ("generator" in {spec.kind for spec in lineage(plan.synthetic)}) is needed
    unchanged = Plan(tiny(tmp_path)).synthetic.identity
    assert Plan(tiny(tmp_path, "sample.source.kind=generator")).synthetic.identity == unchanged


def test_wrong_sources_are_rejected(root: Path) -> None:
    for truth, expected in (
        ("{kind: injection, classes: [nebula]}", "there is no class 'nebula'"),
        ("{kind: recombination, classes: [nebula]}", "there is no class 'nebula'"),
        ("{kind: simulator, classes: [nebula]}", "there is no class 'nebula'"),
        ("{kind: simulator, parameters: {dust: [0, 1]}}", "there is no parameter 'dust'"),
        ("{kind: simulator, parameters: {num_arms: [2, 2]}}", "galaxies of .* do not show it"),
        ("{kind: generator, strength: 0.5, start_classes: [nebula]}", "there is no class 'nebula'"),
    ):
        with pytest.raises(ConfigError, match=expected):
            made(root, f"sample.source={truth}")
    for overrides, expected in (
        (
            ("sample.source.kind=injection", "sample.conditions.kind=nothing"),
            "the key 'conditions' belongs to the source 'generator'",
        ),
        (("sample.source={kind: injection, model: {kind: dust_lane, depth: [2, 1]}}",), "depth must be"),
        (("sample.source={kind: recombination, flux: [2, 1]}",), "flux must be"),
        (("sample.source={kind: generator, strength: 0}",), "strength must lie in"),
    ):
        with pytest.raises(ConfigError, match=expected):
            tiny(root, *overrides)
