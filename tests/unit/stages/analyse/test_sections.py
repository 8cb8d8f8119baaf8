"""The sections of an analysis against values known in advance."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from astropy.table import Table
from matplotlib.figure import Figure

from raydistill.config import load
from raydistill.figures.pages import Picture
from raydistill.galaxies.answers import describe_votes
from raydistill.galaxies.trees import GZ2
from raydistill.pipeline.plan import Plan
from raydistill.stages.analyse.prototypes.bias import measure
from raydistill.stages.analyse.prototypes.gallery import differences, plan_repeats, plans_with_experts
from raydistill.stages.analyse.report.page import survey_links, thin
from raydistill.stages.analyse.sections import (
    Quantity,
    Section,
    SectionFigure,
    SectionTable,
    Statement,
    read_section,
    write_section,
)
from raydistill.stages.curate.config import TrainingPart
from raydistill.stages.distill.counts import mosaic
from raydistill.storage import Folder


def test_table_is_written_with_units_and_read_back(tmp_path):
    rows = pa.table({"radius": [1.5, float("nan")], "name": ["a", "b"]})
    quantities = (Quantity("radius", "Petrosian radius", "arcsec"), Quantity("name", "of the galaxy"))
    table = SectionTable("radii", "Radii.", rows, quantities)
    record = write_section(Folder(tmp_path), Section("one", "One", tables=(table,)))
    read = Table.read(tmp_path / "tables" / "radii.ecsv")
    assert str(read["radius"].unit) == "arcsec"
    assert read["radius"].description == "Petrosian radius"
    assert pa.parquet.read_table(tmp_path / "tables" / "radii.parquet").field("radius").metadata[b"unit"] == b"arcsec"
    assert record.tables[0].rows == [[1.5, "a"], [None, "b"]]


def test_table_needs_a_quantity_for_each_column():
    with pytest.raises(ValueError, match="needs a quantity"):
        SectionTable("t", "T.", pa.table({"a": [1], "b": [2]}), (Quantity("a", "first"),))


def test_section_is_read_as_it_was_written_with_equal_bytes(tmp_path):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [0, 1])
    statements = (Statement("a", 1.0, 0.5, 1.5, 10, 0.01), Statement("b", 1.0, 0.5, 1.5, 10))
    section = Section(
        "one", "One", ("text",), figures=(SectionFigure("f", "alt", "caption", figure),), statements=statements
    )
    first = write_section(Folder(tmp_path / "1"), section)
    write_section(Folder(tmp_path / "2"), section)
    assert read_section(Folder(tmp_path / "1"), "one") == first
    for name in ("sections/one.json", "figures/f.svg", "figures/f.png"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert first.significant == [statements[0]]
    assert first.descriptive == [statements[1]]
    assert not first.insignificant
    json.loads((tmp_path / "1" / "sections" / "one.json").read_text())


def test_votes_are_described_along_the_path_of_the_most_frequent_answers():
    votes = np.full(37, np.nan)
    votes[:3], votes[3:5], votes[5:7] = [0.1, 0.9, 0.0], [0.2, 0.8], [0.7, 0.3]
    votes[15:18] = [1.0, 0.0, 0.0]  # how rounded it is: asked of smooth galaxies only
    assert describe_votes(votes, GZ2) == [
        "smooth or features: features or disk (0.90)",
        "edgeon: no (0.80)",
        "bar: bar (0.70)",
    ]


def test_links_need_coordinates():
    assert survey_links(None, None) == {}
    assert survey_links(float("nan"), 1.0) == {}
    assert "ra=10.500000&dec=-1.000000" in survey_links(10.5, -1.0)["SDSS"]


def test_mosaic_has_a_row_per_class():
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert mosaic(images, [3, 3])[::2, ::2, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert mosaic(images, [4, 2])[::2, ::2, 0].tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]


def test_class_differences_are_those_of_means_of_unequal_classes():
    pixels = torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None, None, None].expand(4, 2, 2, 3)
    selected = SimpleNamespace(pixels=lambda: pixels)
    distilled = SimpleNamespace(selected=selected, first_rows=[0, 3])
    figure = differences(SimpleNamespace(distilled=distilled, class_names=["dark", "bright"]))
    assert figure.alt.endswith("at most 1.00")


def test_frames_of_a_page_keep_the_first_and_the_last():
    frames = [(n, Picture("x" * 1_000_000, "")) for n in range(40)]
    kept = [number for number, _ in thin(frames)]
    assert (kept[0], kept[-1], len(kept)) == (0, 39, 8)
    assert thin(frames[:3]) == frames[:3]


def test_bias_finds_an_excess_over_the_control_and_not_noise():
    rng = np.random.default_rng(0)
    size = rng.normal(size=400)
    members = np.arange(400) < 300
    like_prototypes = -size + 0.1 * rng.normal(size=400)
    result = measure("labels", 0, "size", like_prototypes, rng.normal(size=400), size, members)
    assert result is not None
    assert result.n == 300
    assert result.correlation < -0.9
    excess = result.excess
    assert excess.low < excess.value == result.correlation - result.control < excess.high < -0.7
    equal = measure("labels", 0, "size", like_prototypes, like_prototypes, size, members)
    assert (equal.excess.value, equal.p_value) == (0, 1)
    noise = [measure("labels", 0, "size", *rng.normal(size=(2, 400)), size, members).p_value for _ in range(60)]
    assert np.mean(np.array(noise) < 0.05) < 0.15
    assert measure("labels", 0, "size", size, size, size, np.arange(400) < 19) is None


def test_interval_of_an_excess_covers_the_truth_in_19_of_20_cases():
    rng = np.random.default_rng(1)
    truth, covered = 6 / np.pi * np.arcsin(0.5 / 2), 0  # Spearman's correlation of normals with Pearson's 0.5
    for _ in range(100):
        x, control = rng.normal(size=(2, 60))
        y = 0.5 * x + np.sqrt(0.75) * rng.normal(size=60)
        result = measure("labels", 0, "x", y, control, x, np.ones(60, bool))
        covered += result.excess.low <= truth <= result.excess.high
    assert 0.88 <= covered / 100 < 1


def test_repeats_differ_in_seeds_experts_or_networks():
    words = ["experts.num_experts=5", "analyse.expert_groups=2", "analyse.networks=[{depth: 2}]", "analyse.repeats=1"]
    plan = Plan(load("demo", words))
    seeds, experts, networks = plan_repeats(plan)
    assert [plan_.config.distill.seed for plan_ in seeds.plans] == [0, 1]
    assert [plan_.config.distill.experts for plan_ in experts.plans] == [(0, 2, 4), (1, 3)]
    assert experts.names == ("experts 0, 2, 4", "experts 1, 3")
    assert len({plan_.config.distill.seed for plan_ in experts.plans}) == 2
    assert [plan_.config.network.depth for plan_ in networks.plans] == [plan.config.network.depth, 2]
    assert seeds.plans[0].distilled.identity == networks.plans[0].distilled.identity == plan.distilled.identity
    identities = {plan_.distilled.identity for group in (seeds, experts, networks) for plan_ in group.plans}
    assert len(identities) == 5
    assert (
        experts.plans[0].trajectories.identity == plan.trajectories.identity != networks.plans[1].trajectories.identity
    )
    assert plan_repeats(Plan(load("demo"))) == []


def test_disjoint_parts_have_sets_and_experts_of_their_own():
    plan = Plan(load("demo", ["analyse.disjoint=2", "analyse.permuted=true"]))
    parts, control = plan_repeats(plan)
    assert (parts.varied, control.varied) == ("galaxies", "permuted labels")
    plans = [*parts.plans, *control.plans]
    assert [other.config.curate.part for other in plans] == [
        TrainingPart(0, 2), TrainingPart(1, 2), TrainingPart(0, 2, True), TrainingPart(1, 2, True),
    ]  # fmt: skip
    for kind in ("curated", "trajectories", "distilled"):
        assert len({getattr(other, kind).identity for other in (plan, *plans)}) == 5
    assert [other.distilled.identity for other in plans_with_experts(plan)] == [
        other.distilled.identity for other in plans
    ]
