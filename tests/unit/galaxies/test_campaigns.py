"""Tests of the votes of Galaxy Zoo's campaigns: columns, fractions and classes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.campaigns import CAMPAIGNS, COUNT, DEBIASED, FRACTION, find_columns, spell
from raydistill.galaxies.catalog import read_catalog, votes_array
from raydistill.galaxies.classes import BUILTIN_TREES, load_class_tree
from raydistill.galaxies.selection import assign_classes, count_unassigned
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ_DECALS, TREES

CAMPAIGN_OF = {"gz2": "galaxy-datasets", "gz-decals": "gz-decals-5"}  # for columns without a tag; or the tree's name


def vote(tree: DecisionTree, volunteers: int, rng: np.random.Generator) -> np.ndarray:
    """Return the votes of volunteers who follow the tree, `[answers]`."""
    counts = np.zeros(len(tree.answers), int)
    for _ in range(volunteers):
        given_answers: set[str] = set()
        for task in tree.tasks:
            if not task.asked_after or given_answers & set(task.asked_after):
                choice = int(rng.integers(len(task.answers)))
                counts[tree.index[task.answers[choice].column]] += 1
                given_answers.add(task.answers[choice].column)
    return counts


def to_fractions(tree: DecisionTree, counts: np.ndarray) -> np.ndarray:
    """Return the fraction of each answer among those asked; NaN without volunteers."""
    fractions = np.full(counts.shape, np.nan)
    for task in tree.tasks:
        of_task = counts[:, tree.columns_of(task)]
        total = of_task.sum(axis=1, keepdims=True)
        fractions[:, tree.columns_of(task)] = np.where(total > 0, of_task / np.maximum(total, 1), np.nan)
    return fractions


def names(tree: DecisionTree, tag: str, kind: str) -> list[str]:
    return [name for task in find_columns(tree, tag, ()) for name in task.expected[kind]]


def table_of(tree: DecisionTree, tag: str, counts: np.ndarray, *kinds: str, totals: bool = True) -> dict[str, Any]:
    """Return the columns of a table; fractions are null without volunteers."""
    fractions = to_fractions(tree, counts)
    values = {COUNT: counts, FRACTION: fractions, DEBIASED: fractions}
    table: dict[str, Any] = {"id_str": [f"g{i}" for i in range(len(counts))]}
    for kind in kinds:
        columns = zip(names(tree, tag, kind), values[kind].T, strict=True)
        table |= {name: pa.array(column, from_pandas=True) for name, column in columns}
    if totals:
        for task, names_of in zip(tree.tasks, find_columns(tree, tag, ()), strict=True):
            question = names_of.expected[COUNT][0].partition("_")[0]
            table[f"{question}_total-votes"] = counts[:, tree.columns_of(task)].sum(axis=1)
    return table


def write(path: Path, table: dict[str, Any]) -> str:
    pq.write_table(pa.table(table), path)
    return str(path)


def random_counts(tree: DecisionTree, galaxies: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([vote(tree, int(rng.integers(1, 40)), rng) for _ in range(galaxies)])


def assert_read(catalog: pa.Table, tree: DecisionTree, counts: np.ndarray) -> None:
    assert catalog.schema.metadata[b"raydistill.tree"] == tree.name.encode()
    np.testing.assert_allclose(votes_array(catalog, tree), to_fractions(tree, counts), atol=1e-6)


# ---- every campaign ----


@pytest.mark.parametrize("kinds", [(FRACTION,), (COUNT,), (COUNT, FRACTION)], ids=["fractions", "counts", "both"])
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_votes_of_every_campaign_are_recognised(tmp_path: Path, name: str, kinds: tuple[str, ...]) -> None:
    tree, tag = CAMPAIGNS[name].tree, CAMPAIGNS[name].tag
    counts = random_counts(tree)
    uri = write(tmp_path / "votes.parquet", table_of(tree, tag, counts, *kinds))
    assert_read(read_catalog(uri, fractions="raw"), tree, counts)
    catalog = read_catalog(uri)
    assert_read(catalog, tree, counts)
    assert catalog.schema.metadata[b"raydistill.dialect"] == name.encode()
    assert catalog["total_votes"].to_pylist() == counts.sum(axis=1).tolist()


def test_totals_with_gaps_are_unknown_and_not_zero(tmp_path: Path) -> None:
    counts = random_counts(GZ_DECALS)
    table = table_of(GZ_DECALS, "dr5", counts, FRACTION)
    totals = [name for name in table if name.endswith("_total-votes")]
    empty = {name: [None, *table[name][1:]] if name in totals else table[name] for name in table}
    read = read_catalog(write(tmp_path / "empty.parquet", empty))["total_votes"].to_pylist()
    assert read[0] is None
    assert read[1:] == counts.sum(axis=1).tolist()[1:]
    some = {name: values for name, values in table.items() if name not in totals[1:]}
    assert read_catalog(write(tmp_path / "some.parquet", some))["total_votes"].null_count == len(counts)


@pytest.mark.parametrize("style", ["galaxy-datasets", "underscores", "upper case"])
@pytest.mark.parametrize("name", TREES)
def test_release_of_one_campaign_may_leave_its_tag_out(tmp_path: Path, name: str, style: str) -> None:
    tree = TREES[name]
    counts = random_counts(tree, seed=1)
    table = table_of(tree, "", counts, FRACTION, totals=False)
    if style != "galaxy-datasets":
        table = {spell(key).upper() if style == "upper case" else spell(key): row for key, row in table.items()}
    catalog = read_catalog(write(tmp_path / "votes.parquet", table))
    assert_read(catalog, tree, counts)
    assert catalog.schema.metadata[b"raydistill.dialect"] == CAMPAIGN_OF.get(name, name).encode()
    assert catalog["total_votes"].null_count == len(counts)


def test_log_names_the_tree_and_the_questions_that_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = random_counts(GZ_DECALS)
    table = {key: row for key, row in table_of(GZ_DECALS, "dr5", counts, FRACTION).items() if "merging" not in key}
    caplog.set_level(logging.INFO, "raydistill")
    catalog = read_catalog(write(tmp_path / "votes.parquet", table))
    assert "curate: votes of the GZ DECaLS tree (34 answers); the table lacks the questions merging" in caplog.messages
    merging = GZ_DECALS.columns_of(GZ_DECALS.tasks[-1])
    assert np.isnan(votes_array(catalog, GZ_DECALS)[:, merging]).all()
    assert len(assign_classes(catalog, BUILTIN_TREES["gz-decals-9"]))
    with pytest.raises(CatalogError, match="the table has no votes on 'merging', which the class 'disturbed' needs"):
        assign_classes(catalog, BUILTIN_TREES["gz-decals-10"])


# ---- releases ----


def test_table_of_gz_decals_volunteers(tmp_path: Path) -> None:
    """As in Zenodo record 4573248: `iauname`, counts, fractions, debiased fractions."""
    counts = random_counts(GZ_DECALS, galaxies=2)
    table = table_of(GZ_DECALS, "", counts, COUNT, FRACTION)
    debiased = np.roll(to_fractions(GZ_DECALS, counts), 1, axis=0)
    table |= {
        name: pa.array(row, from_pandas=True)
        for name, row in zip(names(GZ_DECALS, "", DEBIASED), debiased.T, strict=True)
    }
    del table["id_str"]
    table = {
        "iauname": ["J112953.88-000427.4", "J104325.29+190335.0"],
        "ra": [172.47, 160.86],
        "dec": [-0.07, 19.06],
        **table,
    }
    pacsv.write_csv(pa.table(table), tmp_path / "gz_decals_volunteers_5.csv")
    uri = str(tmp_path / "gz_decals_volunteers_5.csv")
    catalog = read_catalog(uri)
    assert_read(catalog, GZ_DECALS, counts)
    assert catalog["object_id"].to_pylist() == ["J112953.88-000427.4", "J104325.29+190335.0"]
    assert catalog["ra"].to_pylist() == [172.47, 160.86]
    np.testing.assert_allclose(votes_array(read_catalog(uri, fractions="debiased"), GZ_DECALS), debiased, atol=1e-6)


def test_predictions_of_gz_desi_are_null_where_a_question_is_irrelevant(tmp_path: Path) -> None:
    """GZ DESI's table (Zenodo record 8360385) has `dr8_id` and predicted fractions.

    It has no numbers of votes.
    """
    table: dict[str, Any] = {name: pa.nulls(2, pa.float32()) for name in names(GZ_DECALS, "", FRACTION)}
    row = {"smooth-or-featured_smooth": [0.8, 0.1], "smooth-or-featured_featured-or-disk": [0.1, 0.8]}
    row |= {
        "smooth-or-featured_artifact": [0.1, 0.1],
        "how-rounded_round": [0.75, None],
        "how-rounded_in-between": [0.25, None],
    }
    row |= {"how-rounded_cigar-shaped": [0.0, None], "disk-edge-on_yes": [None, 1.0], "disk-edge-on_no": [None, 0.0]}
    row |= {
        "edge-on-bulge_none": [None, 0.25],
        "edge-on-bulge_boxy": [None, 0.0],
        "edge-on-bulge_rounded": [None, 0.75],
    }
    table |= {f"{name}_fraction": pa.array(values, pa.float32()) for name, values in row.items()}
    catalog = read_catalog(write(tmp_path / "gz_desi.parquet", {"dr8_id": ["1_2", "3_4"], **table}))
    assert catalog["object_id"].to_pylist() == ["1_2", "3_4"]
    assert catalog["total_votes"].null_count == 2
    assigned = assign_classes(catalog, BUILTIN_TREES["gz-decals-9"])
    names_of_classes = [BUILTIN_TREES["gz-decals-9"].names[label] for label in assigned["label"].to_pylist()]
    assert names_of_classes == ["smooth_round", "edge_on_bulge"]
    np.testing.assert_allclose(assigned["confidence"].to_pylist(), [0.8 * 0.75, 0.8 * 1.0 * 0.75], rtol=1e-6)


@pytest.mark.parametrize("prefix", ["", "MORPH_"])
def test_concentrations_of_euclids_catalogue_become_expected_fractions(tmp_path: Path, prefix: str) -> None:
    """The MER catalogue of Q1 has upper case, two renamed answers, and no fractions."""
    tree = TREES["gz-euclid"]
    renamed = {
        "SMOOTH_OR_FEATURED_PROBLEM": "SMOOTH_OR_FEATURED_ARTIFACT_STAR_ZOOM",
        "HOW_ROUNDED_ROUND": "HOW_ROUNDED_COMPLETELY",
    }
    absent = ("CLUMPS", "PROBLEM", "ARTIFACT")
    rng = np.random.default_rng(0)
    concentrations = rng.uniform(0.5, 90, (5, len(tree.answers)))
    table = {"OBJECT_ID": np.arange(2626778158000000000, 2626778158000000005)}
    for name, row in zip(names(tree, "", COUNT), concentrations.T, strict=True):
        upper = spell(name).upper()
        if not upper.startswith(absent):
            table[prefix + renamed.get(upper, upper)] = row
    Table(table).write(tmp_path / "morphology.fits")
    catalog = read_catalog(str(tmp_path / "morphology.fits"))
    expected = to_fractions(tree, concentrations)
    expected[:, -12:] = np.nan  # clumps, problem, artifact
    np.testing.assert_allclose(votes_array(catalog, tree), expected, atol=1e-6)
    assert catalog.schema.metadata[b"raydistill.dialect"] == b"gz-euclid"
    assert catalog["total_votes"].null_count == 5  # concentrations are not numbers of votes


def test_question_without_votes_has_no_fractions(tmp_path: Path) -> None:
    counts = np.zeros((2, 34), int)
    for word, votes_of in {"smooth": [3, 0], "featured-or-disk": [1, 0], "in-between": [3, 0]}.items():
        counts[:, GZ_DECALS.index[GZ_DECALS.resolve(word)]] = votes_of
    catalog = read_catalog(write(tmp_path / "votes.parquet", table_of(GZ_DECALS, "dr8", counts, COUNT)))
    fractions = votes_array(catalog, GZ_DECALS)
    assert fractions[0, :3].tolist() == [0.75, 0.25, 0]
    assert np.isnan(fractions[0, GZ_DECALS.columns_of(GZ_DECALS.tasks[1])]).all()  # no volunteer was asked
    assert np.isnan(fractions[1]).all()
    assert count_unassigned(assign_classes(catalog, BUILTIN_TREES["gz-decals-9"]))["no_class"] == 1


# ---- classes ----


def counts_of(**answers: int) -> np.ndarray:
    counts = np.zeros((1, 34), int)
    for word, votes in answers.items():
        counts[0, GZ_DECALS.index[GZ_DECALS.resolve(word)]] = votes
    return counts


BARRED = counts_of(
    smooth=8, featured_or_disk=30, smooth_or_featured_artifact=2, how_rounded_round=8, disk_edge_on_yes=6, disk_edge_on_no=24,
    edge_on_bulge_none=6, bar_strong=6, bar_weak=12, bar_no=6, has_spiral_arms_yes=18, has_spiral_arms_no=6,
    tight=9, medium=9, merging_none=19, minor_disturbance=19,
)  # fmt: skip
MERGING = counts_of(
    smooth=20, featured_or_disk=20, in_between=20, disk_edge_on_yes=10, disk_edge_on_no=10, merging_none=4, merger=36
)


@pytest.mark.parametrize(
    ("classes", "counts", "name", "confidence"),
    [
        ("gz-decals-9", BARRED, "bar_spiral", 30 / 40 * 24 / 30 * 18 / 24 * 18 / 24),
        ("gz-decals-10", BARRED, "disturbed", 38 / 40 * 19 / 38),
        ("gz-decals-10", MERGING, "merging", 40 / 40 * 36 / 40),
        ("gz-decals-9", MERGING, "smooth_in_between", 20 / 40 * 20 / 20),
    ],
)
def test_class_is_the_path_with_the_largest_product(
    tmp_path: Path, classes: str, counts: np.ndarray, name: str, confidence: float
) -> None:
    catalog = read_catalog(write(tmp_path / "votes.parquet", table_of(GZ_DECALS, "dr5", counts, COUNT)))
    assigned = assign_classes(catalog, BUILTIN_TREES[classes])
    assert [BUILTIN_TREES[classes].names[label] for label in assigned["label"].to_pylist()] == [name]
    np.testing.assert_allclose(assigned["confidence"].to_pylist(), [confidence], rtol=1e-6)


def test_classes_of_another_tree_are_rejected_with_those_that_fit(tmp_path: Path) -> None:
    catalog = read_catalog(write(tmp_path / "votes.parquet", table_of(GZ_DECALS, "dr5", BARRED, FRACTION)))
    with pytest.raises(ConfigError) as caught:
        assign_classes(catalog, load_class_tree("gz2-9"))
    assert str(caught.value) == (
        "the classes 'gz2-9' follow the tree of Galaxy Zoo 2, the votes that of GZ DECaLS; "
        "set it to gz-decals-9, gz-decals-10 or a YAML file with 'tree: gz-decals'"
    )
    with pytest.raises(ConfigError, match="there are no thresholds for the tree of GZ DECaLS; set it to null"):
        assign_classes(catalog, load_class_tree("gz-decals-9"), thresholds="n10")
    with pytest.raises(ConfigError, match="class 'a': the class has no path in the decision tree"):
        assign_classes(catalog, load_class_tree(["a", "b"]))


@given(
    name=st.sampled_from(sorted(CAMPAIGNS)), tagged=st.booleans(), kind=st.sampled_from([FRACTION, COUNT]),
    galaxies=st.integers(1, 4), volunteers=st.integers(0, 12), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_votes_give_normalised_fractions_and_classes_that_obey_the_tree(
    tmp_path: Path, name: str, tagged: bool, kind: str, galaxies: int, volunteers: int, seed: int
) -> None:
    tree, tag = CAMPAIGNS[name].tree, CAMPAIGNS[name].tag if tagged else ""
    rng = np.random.default_rng(seed)
    counts = np.stack([vote(tree, volunteers, rng) for _ in range(galaxies)])
    catalog = read_catalog(write(tmp_path / "votes.parquet", table_of(tree, tag, counts, kind)), name)
    fractions = votes_array(catalog, tree)
    for task in tree.tasks:
        of_task = fractions[:, tree.columns_of(task)]
        asked = counts[:, tree.columns_of(task)].sum(axis=1) > 0
        np.testing.assert_allclose(of_task[asked].sum(axis=1), 1, rtol=1e-5)
        assert np.isnan(of_task[~asked]).all()
    for classes in (t for t in BUILTIN_TREES.values() if t.tree == tree):
        assigned = assign_classes(catalog, classes)
        for object_id, label in zip(assigned["object_id"].to_pylist(), assigned["label"].to_pylist(), strict=True):
            votes = counts[int(object_id[1:])]
            assert all(sum(votes[tree.index[stem]] for stem in step) > 0 for step in classes.classes[label].path)
        assert np.all((np.array(assigned["confidence"]) > 0) & (np.array(assigned["confidence"]) <= 1))


# ---- tables that leave a doubt, or contradict themselves ----


def rejection(path: Path, table: dict[str, Any], dialect: str = "auto") -> str:
    with pytest.raises(CatalogError) as caught:
        read_catalog(write(path, table), dialect)
    return str(caught.value).removeprefix(f"{path}: ")


def test_table_with_votes_of_several_campaigns_needs_a_choice(tmp_path: Path) -> None:
    """GZ DESI of galaxy-datasets has three campaigns, GZ Evo ten."""
    decals, earlier, gz2 = (random_counts(TREES[name]) for name in ("gz-decals", "gz-decals-12", "gz2"))
    table = table_of(TREES["gz-decals-12"], "dr12", earlier, COUNT) | table_of(GZ_DECALS, "dr8", decals, COUNT)
    assert rejection(tmp_path / "desi.parquet", table) == (
        "holds votes that fit several campaigns of Galaxy Zoo (gz-decals-12, gz-decals-8); "
        "choose one, as survey.dialect=gz-decals-12"
    )
    assert_read(read_catalog(str(tmp_path / "desi.parquet"), "gz-decals-8"), GZ_DECALS, decals)
    table |= table_of(TREES["gz2"], "gz2", gz2, FRACTION)
    assert "(galaxy-datasets, gz-decals-12, gz-decals-8)" in rejection(tmp_path / "evo.parquet", table)
    assert_read(read_catalog(str(tmp_path / "evo.parquet"), "galaxy-datasets"), TREES["gz2"], gz2)


def test_columns_that_fit_two_trees_need_a_choice(tmp_path: Path) -> None:
    """GZ Cosmic Dawn and GZ Euclid differ in one answer of the last question only."""
    tree = TREES["gz-cosmic-dawn"]
    counts = random_counts(tree)
    table = {
        key: row
        for key, row in table_of(tree, "", counts, FRACTION, totals=False).items()
        if not key.startswith("artifact")
    }
    assert "(gz-cosmic-dawn, gz-euclid); choose one, as survey.dialect=gz-cosmic-dawn" in rejection(
        tmp_path / "a.parquet", table
    )
    assert read_catalog(str(tmp_path / "a.parquet"), "gz-euclid").schema.metadata[b"raydistill.tree"] == b"gz-euclid"


def test_labels_come_before_votes_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    table = table_of(GZ_DECALS, "dr5", BARRED, FRACTION) | {"label": ["spiral"]}
    assert read_catalog(write(tmp_path / "a.parquet", table))["label"].to_pylist() == ["spiral"]
    assert caplog.messages == [
        "curate: column 'label' holds the labels; survey.dialect=gz-decals-5 takes classes from the table's votes"
    ]
    assert_read(read_catalog(str(tmp_path / "a.parquet"), "gz-decals-5"), GZ_DECALS, BARRED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bar-dr5_strong_fraction": [1.2]},
            r"column 'bar-dr5_strong_fraction' is outside \[0, 1\] in 1 rows \(row 1: 1.2\); check that it holds fractions",
        ),
        (
            {"bar-dr5_strong_fraction": [0.9]},
            "the fractions of 'bar-dr5_strong_fraction' and its question's other answers sum to 1.65 in row 1; check that",
        ),
        (
            {"bar-dr5_strong_fraction": ["many"]},
            "column 'bar-dr5_strong_fraction' holds 'many' in row 1, which is not a number",
        ),
        (
            {"bar-dr5_strong_fraction": None},
            r"no column 'bar-dr5_strong_fraction'; correct .* did you mean 'bar-dr5_no_fraction'",
        ),
    ],
)
def test_contradictory_fractions_are_rejected(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    table = table_of(GZ_DECALS, "dr5", BARRED, FRACTION) | change
    table = {key: row for key, row in table.items() if row is not None}
    with pytest.raises(CatalogError, match=message):
        read_catalog(write(tmp_path / "votes.parquet", table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bar-dr5_total-votes": [10]},
            "the answers have 24 votes in row 1, and 'bar-dr5_total-votes' is 10; correct the columns of",
        ),
        (
            {"bar-dr5_strong": [-1]},
            r"column 'bar-dr5_strong' is not a number of votes in 1 rows \(row 1: -1\); correct it or leave it",
        ),
        ({"bar-dr5_total-votes": ["?!"]}, "column 'bar-dr5_total-votes' holds '\\?!' in row 1, which is not a number"),
    ],
)
def test_contradictory_numbers_of_votes_are_rejected(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        read_catalog(write(tmp_path / "votes.parquet", table_of(GZ_DECALS, "dr5", BARRED, COUNT) | change))


def test_fractions_that_leave_votes_out_are_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of(GZ_DECALS, "dr5", BARRED, FRACTION) | {
        "bar-dr5_no_fraction": [0.0],
        "merging-dr5_total-votes": [0],
    }
    catalog = read_catalog(write(tmp_path / "votes.parquet", table))
    assert any("sum to less than 1 in 1 rows (row 1: 0.75); they are read as they are" in m for m in caplog.messages)
    assert any("'merging-dr5_total-votes' is 0 in 1 rows that have fractions (row 1)" in m for m in caplog.messages)
    fractions = votes_array(catalog, GZ_DECALS)[0]
    assert fractions[GZ_DECALS.index["bar_strong"]] == 0.25
    assert np.isnan(fractions[GZ_DECALS.index["merging_none"]])


def test_table_without_debiased_fractions_says_so(tmp_path: Path) -> None:
    uri = write(tmp_path / "votes.parquet", table_of(GZ_DECALS, "dr5", BARRED, FRACTION))
    with pytest.raises(CatalogError, match="'gz-decals-5' has no debiased fractions; set"):
        read_catalog(uri, fractions="debiased")


def test_schema_that_does_not_fit_names_the_column(tmp_path: Path) -> None:
    table = table_of(GZ_DECALS, "dr5", BARRED, FRACTION)
    sentence = rejection(tmp_path / "votes.parquet", table, "gz-euclid")
    assert sentence.startswith(
        "has no column 'smooth-or-featured-euclid_smooth_fraction'; correct survey.dialect (now gz-euclid)"
    )
