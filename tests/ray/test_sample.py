"""Test the sample stage: counts, conditions, and equal bits on 1 and 2 workers.

Also test resuming, and the filter.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ray_tools import SILENT, content, copy_of, killing, tiny

from raydistill.errors import ConfigError
from raydistill.galaxies.trees import GZ2
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.sample import stage
from raydistill.stages.sample.artifact import NO_CLASS, SyntheticSet
from raydistill.stages.sample.worker import recognise
from tests.unit.stages.sample_tools import write_generator

pytestmark = pytest.mark.usefixtures("cluster")

INPUTS = ("survey", "curated", "trajectories", "generator")
FEW = ("sample.block_size=4", "sample.sampling={steps: 2}", "sample.num_images=10")


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder: curated set, experts, and a generator of random weights."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("sample"), *INPUTS[:-1])
    write_generator(Plan(tiny(root)))
    return root


def sampled(root: Path, *overrides: str) -> SyntheticSet:
    return stage.sample(Plan(tiny(root, *FEW, *overrides)), SILENT)


@pytest.fixture(scope="module")
def by_class(root: Path) -> SyntheticSet:
    return sampled(root, "resources.workers=1")


def test_classes_share_the_images_and_rows_say_that_they_are_synthetic(by_class: SyntheticSet) -> None:
    rows = by_class.to_pandas()
    assert rows["label"].value_counts().to_dict() == {0: 2, 1: 2, 2: 2, 3: 2, 4: 2}
    assert rows["index"].tolist() == list(range(10))
    assert rows["synthetic"].all()
    assert rows["generator"].unique().tolist() == [by_class.manifest.parents["generator"].content]
    assert all(entry.share == 1 for entry in by_class.summary.classes)
    opened = Image.open(io.BytesIO(rows["image"][3]))
    assert opened.size == (16, 16)
    assert opened.text["Comment"].endswith("seed 0, index 3")  # type: ignore[attr-defined]


def test_conditions_are_those_of_training_galaxies_of_the_class(by_class: SyntheticSet, root: Path) -> None:
    galaxies = CuratedSet.open(Plan(tiny(root)).curated.folder).to_pandas("train").set_index("object_id")
    for row in by_class.to_pandas().itertuples():
        original = galaxies.loc[row.origin]
        assert (original["label"], original["petro_r90"]) == (row.label, row.petro_r90)
        np.testing.assert_array_equal(original["votes"], row.votes)


def test_two_workers_give_the_same_bits_as_one(by_class: SyntheticSet, root: Path, tmp_path: Path) -> None:
    other = sampled(copy_of(root, tmp_path, *INPUTS), "resources.workers=2")
    assert other.manifest.content == by_class.manifest.content


def test_another_seed_gives_other_images(by_class: SyntheticSet, root: Path) -> None:
    other = sampled(root, "sample.seed=1")
    assert (other.load().images_NHWC != by_class.load().images_NHWC).any(dim=(1, 2, 3)).all()


@pytest.mark.long
def test_a_killed_worker_changes_nothing(root: Path, tmp_path: Path) -> None:
    overrides = ("sample.sampling={steps: 300}", "sample.num_images=40", "resources.workers=2")
    expected = sampled(copy_of(root, tmp_path / "whole", *INPUTS), *overrides)
    config = tiny(copy_of(root, tmp_path / "killed", *INPUTS), *FEW, *overrides)
    blocks = Path(Plan(config).synthetic.folder.uri) / "partial" / "blocks"
    with killing("MapBatches", lambda: blocks.is_dir() and len(list(blocks.glob("block-*"))) > 1):
        stage.sample(Plan(config), SILENT)
    assert content(Plan(config).synthetic) == expected.manifest.content


def test_an_interrupted_stage_samples_only_the_missing_blocks(
    by_class: SyntheticSet, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(tiny(copy_of(root, tmp_path, *INPUTS), *FEW))
    blocks = Path(plan.synthetic.folder.uri) / "partial" / "blocks"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "merge_blocks", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.sample(plan, SILENT)
    lost = sorted(blocks.iterdir())[2]
    lost.unlink()
    sample_blocks, sampled_again = stage._sample_blocks, []

    def count(plan: Plan, sampling: Any, tables: Iterable[Any], folder: Any) -> Any:
        missing = list(tables)
        sampled_again.extend(table["block"][0].as_py() for table in missing)
        return sample_blocks(plan, sampling, missing, folder)

    monkeypatch.setattr(stage, "_sample_blocks", count)
    resumed = stage.sample(plan, SILENT)
    assert sampled_again == [lost.name]
    assert resumed.manifest.content == by_class.manifest.content
    assert not blocks.exists()


def test_the_filter_keeps_what_the_experts_recognise(root: Path) -> None:
    everything = sampled(root, "sample.per_class=24", "sample.conditions.classes=[round, spiral]")
    plan = Plan(tiny(root))
    experts = plan.trajectories.folder.uri, plan.curated.folder.uri
    loaded, rows = everything.load(), everything.table(["index"])
    probability = recognise(experts, "cpu", (), loaded.images_NHWC.numpy(), loaded.labels_N.numpy())
    least = round(float(np.quantile(probability, 0.8)), 4)  # some samples have more
    wanted = (f"sample.filter={{min_probability: {least}, max_samples_per_image: 8}}", "sample.per_class=3")
    kept = sampled(root, *wanted, "sample.conditions.classes=[round, spiral]")
    for label, entry in enumerate(kept.summary.classes):
        of_class = np.flatnonzero(loaded.labels_N.numpy() == label)
        recognised = of_class[probability[of_class] >= least][:3]
        result = kept.table(["index", "recognised"])
        result = result.filter(np.asarray(result["label"]) == label)
        assert result["index"].to_pylist() == rows["index"].take(recognised).to_pylist()
        np.testing.assert_allclose(result["recognised"], probability[recognised], rtol=1e-5)
        if len(of_class):
            last = of_class.tolist().index(recognised[-1]) if len(recognised) == 3 else len(of_class) - 1
            assert (entry.kept, entry.sampled) == (len(recognised), last + 1)
    kept_of, sampled_of = (sum(getattr(c, name) for c in kept.summary.classes) for name in ("kept", "sampled"))
    assert 0 < kept_of < sampled_of, "the filter keeps all or nothing: this test proves nothing"


def test_answers_without_a_class_are_unlabelled(root: Path) -> None:
    answers = sampled(root, "sample.conditions.answers={smooth: 0.9, features_or_disk: 0.1}", "sample.num_images=3")
    loaded = answers.load()
    assert loaded.labels_N.tolist() == [NO_CLASS] * 3
    assert answers.summary.unlabelled.kept == 3
    votes = answers.to_pandas()["votes"][0]
    np.testing.assert_allclose(votes[:3], [0.9, 0.1, 0])
    assert np.isnan(votes[3:]).all()
    with pytest.raises(ConfigError, match="the filter compares a sample with its class, and the conditions determine"):
        sampled(root, "sample.conditions.answers={smooth: 1}", "sample.filter={min_probability: 0.5}")


def test_real_galaxies_with_a_changed_answer_keep_their_ids(root: Path) -> None:
    ids = CuratedSet.open(Plan(tiny(root)).curated.folder).table("test", ["object_id"])["object_id"].to_pylist()[:2]
    edited = sampled(root, f"sample.conditions={{object_ids: ['{ids[0]}', '{ids[1]}'], answers: {{odd_yes: 1}}}}")
    rows = edited.to_pandas()
    assert rows["origin"].tolist() == ids * 5
    column = GZ2.index["t06_odd_a14_yes"]
    assert [votes[column] for votes in rows["votes"]] == [1.0] * 10
