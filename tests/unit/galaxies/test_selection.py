"""Tests of the selection: classes depend on votes, splits on ids.

Stricter thresholds only remove galaxies.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.catalog import read_catalog, votes_array, votes_type
from raydistill.galaxies.classes import GZ2_FIVE, GZ2_NINE, ClassTree, GalaxyClass, load_class_tree
from raydistill.galaxies.selection import assign_classes, assign_splits, count_unassigned, report, select
from raydistill.galaxies.trees import GZ2


def catalog_of(*galaxies: dict[str, float], total_votes: list[float | None] | None = None) -> pa.Table:
    votes = np.full((len(galaxies), 37), np.nan, dtype=np.float32)
    for row, fractions in enumerate(galaxies):
        for word, fraction in fractions.items():
            votes[row, GZ2.index[GZ2.resolve(word)]] = fraction
    table = pa.table({"object_id": [f"g{i}" for i in range(len(galaxies))]})
    table = table.append_column("total_votes", pa.array(total_votes or [None] * len(galaxies), pa.float64()))
    return table.append_column("votes", pa.FixedSizeListArray.from_arrays(votes.ravel(), type=votes_type()))


def labels(words: list[str | None], confidence: list[float | None] | None = None) -> pa.Table:
    ids = [f"g{i}" for i in range(len(words))]
    confidence = confidence or [1.0] * len(words)
    return pa.table({"object_id": ids, "label": pa.array(words, pa.string()), "confidence": confidence})


ROUND = {"smooth": 0.8, "completely_round": 0.75, "in_between": 0.25}
BAR = {"features_or_disk": 0.6, "edgeon_no": 0.9, "bar": 0.8, "no_bar": 0.2, "spiral": 0.7, "no_spiral": 0.3}


# ---- classes ----


def test_class_has_the_largest_product():
    assigned = assign_classes(catalog_of(ROUND, BAR), GZ2_NINE)
    assert assigned["label"].to_pylist() == [0, 5]
    assert assigned["label"].type == pa.int32()
    np.testing.assert_allclose(assigned["confidence"], [0.8 * 0.75, 0.6 * 0.9 * 0.8 * 0.7], rtol=1e-6)
    assert {"object_id", "votes", "total_votes"} < set(assigned.column_names)


def test_lower_index_wins_a_tie():
    tie = {"smooth": 0.8, "completely_round": 0.5, "in_between": 0.5}
    assert assign_classes(catalog_of(tie), GZ2_NINE)["label"].to_pylist() == [0]


def test_galaxy_without_votes_has_no_class():
    assigned = assign_classes(catalog_of(ROUND, {}), GZ2_NINE)
    assert assigned["object_id"].to_pylist() == ["g0"]
    assert count_unassigned(assigned)["no_class"] == 1


@pytest.mark.parametrize(("smooth", "is_assigned"), [(0.468, False), (0.470, True)])
def test_willett_thresholds_apply_to_the_preceding_answer(smooth, is_assigned):
    galaxy = {"smooth": smooth, "completely_round": 1.0}
    assert assign_classes(catalog_of(galaxy), GZ2_NINE).num_rows == 1
    assigned = assign_classes(catalog_of(galaxy), GZ2_NINE, thresholds="n20")
    assert assigned.num_rows == is_assigned
    assert count_unassigned(assigned)["below_thresholds"] == 1 - is_assigned


def test_thresholds_apply_to_every_question_of_the_path():
    doubtful = {**BAR, "edgeon_no": 0.6}  # enough for N >= 10 (0.519), not for N >= 20 (0.715)
    assert assign_classes(catalog_of(doubtful), GZ2_NINE, thresholds="n10").num_rows == 1
    assert assign_classes(catalog_of(doubtful), GZ2_NINE, thresholds="n20").num_rows == 0
    winding = ClassTree("w", (GalaxyClass("tight", (("features_or_disk",), ("edgeon_no",), ("spiral",), ("tight",))),))
    spiral = {**BAR, "spiral": 0.6, "tight": 1.0}  # task 10 needs a spiral fraction of 0.619
    assert assign_classes(catalog_of(spiral), winding, thresholds="n20").num_rows == 0
    assert assign_classes(catalog_of({**spiral, "spiral": 0.62}), winding, thresholds="n20").num_rows == 1


def test_min_votes_leaves_out_galaxies_with_fewer_or_unknown_votes():
    catalog = catalog_of(ROUND, ROUND, ROUND, total_votes=[19.0, 20.0, None])
    assigned = assign_classes(catalog, GZ2_NINE, min_votes=20)
    assert assigned["object_id"].to_pylist() == ["g1"]
    assert count_unassigned(assigned)["too_few_votes"] == 2
    with pytest.raises(CatalogError, match="set min_votes to 0"):
        assign_classes(catalog_of(ROUND), GZ2_NINE, min_votes=20)


def test_list_of_labels_leaves_other_labels_out():
    table, tree = labels(["dog", "cat", "cow", None, "dog"]), load_class_tree(["cat", "dog"])
    assigned = assign_classes(table, tree)
    assert assigned["label"].to_pylist() == [1, 0, 1]
    assert (count_unassigned(assigned)["other_label"], count_unassigned(assigned)["no_label"]) == (1, 1)
    with pytest.raises(CatalogError, match="no galaxy has the label 'dogs'; did you mean 'dog'"):
        assign_classes(table, load_class_tree(["cat", "dogs"]))


def test_labels_of_another_builtin_tree_name_that_tree():
    with pytest.raises(
        CatalogError, match=r"'round' is not a class of the tree 'gz2-9'; .* Otherwise give curate.classes=gz2-5"
    ):
        assign_classes(labels(["round"]), GZ2_NINE)


def test_labels_are_names_or_positions():
    assert assign_classes(labels(["spiral", "round", None, "-1", ""]), GZ2_FIVE)["label"].to_pylist() == [4, 0]
    assert assign_classes(labels(["8", "0", "-1"]), GZ2_NINE)["label"].to_pylist() == [8, 0]
    assert assign_classes(labels(["8.0", "0.00", ""]), GZ2_NINE)["label"].to_pylist() == [8, 0], "as pandas writes them"
    assert count_unassigned(assign_classes(labels(["8", None, "-1"]), GZ2_NINE))["no_label"] == 2
    with pytest.raises(CatalogError, match="did you mean 'spiral'"):
        assign_classes(labels(["spirl"]), GZ2_FIVE)
    digits = ClassTree("digits", (GalaxyClass("7"), GalaxyClass("0")))
    assert assign_classes(labels(["0", "7"]), digits)["label"].to_pylist() == [
        1,
        0,
    ]  # a name has priority over a position


def test_thresholds_need_votes():
    labelled = pa.table({"object_id": ["1"], "label": ["round"], "confidence": [1.0]})
    with pytest.raises(ConfigError, match="the table has labels"):
        assign_classes(labelled, GZ2_FIVE, thresholds="n20")


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'n20'"):
        assign_classes(catalog_of(ROUND), GZ2_NINE, thresholds="n200")  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=37, max_size=37), min_size=1, max_size=6))
def test_stricter_presets_keep_a_subset_and_change_no_class(rows):
    votes = np.array(rows, dtype=np.float32)
    table = pa.table({"object_id": [f"g{i}" for i in range(len(rows))]})
    table = table.append_column("votes", pa.FixedSizeListArray.from_arrays(votes.ravel(), type=votes_type()))
    assigned = [
        dict(zip(a["object_id"].to_pylist(), a["label"].to_pylist(), strict=True))
        for a in (assign_classes(table, GZ2_NINE, thresholds=t) for t in (None, "n10", "n20"))
    ]
    assert assigned[0].items() >= assigned[1].items() >= assigned[2].items()


# ---- split ----


def test_split_depends_on_the_id_only():
    ids = [str(i) for i in range(2000)]
    split = assign_splits(ids)
    order = np.random.default_rng(0).permutation(2000)
    assert (assign_splits([ids[i] for i in order]) == split[order]).all()
    assert (assign_splits(ids[:10]) == split[:10]).all()


def test_split_is_frozen():
    """Another result would move test galaxies of existing artifacts into training."""
    ids = ["587732578312454276", "587729154670395609", "PGC0000212", "1", "2", "3"]
    assert assign_splits(ids).tolist() == ["train", "test", "train", "test", "validation", "train"]


def test_split_sizes_are_binomial():
    split = assign_splits((f"galaxy {i}" for i in range(20_000)), (0.7, 0.1, 0.2))
    for name, fraction in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs((split == name).mean() - fraction) < 5 * np.sqrt(fraction * (1 - fraction) / 20_000)


def test_a_larger_train_fraction_only_moves_galaxies_into_train():
    ids = [str(i) for i in range(3000)]
    less, more = assign_splits(ids, (0.6, 0.2, 0.2)), assign_splits(ids, (0.7, 0.1, 0.2))
    assert (more[less == "train"] == "train").all()
    assert ((less == "test") == (more == "test")).all()


def test_degenerate_splits():
    ids = [str(i) for i in range(100)]
    assert set(assign_splits(ids, (1, 0, 0))) == {"train"}
    assert set(assign_splits(ids, (0, 0, 1))) == {"test"}
    assert set(assign_splits(ids, (0, 1, 0))) == {"validation"}
    assert assign_splits([]).shape == (0,)
    for wrong in ((0.5, 0.2, 0.2), (1.1, -0.1, 0.0)):
        with pytest.raises(ConfigError, match="sum to 1"):
            assign_splits(ids, wrong)


# ---- selection ----

galaxies = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.1, 0.25, 0.5, 0.5, 0.75, 1.0])), max_size=40)


def table_of(rows: list[tuple[int, float]]) -> pa.Table:
    return pa.table(
        {
            "object_id": [f"{(7 * i) % 101:03d}" for i in range(len(rows))],
            "label": pa.array([label for label, _ in rows], pa.int32()),
            "confidence": pa.array([confidence for _, confidence in rows], pa.float64()),
        }
    )


def ids(table: pa.Table) -> set[str]:
    return set(table["object_id"].to_pylist())


@given(galaxies, st.integers(1, 10), st.integers(0, 10), st.floats(0, 1), st.floats(0, 1))
def test_selection_is_monotone_in_its_thresholds(rows, per_class, more, a, b):
    table, low, high = table_of(rows), min(a, b), max(a, b)
    kept = ids(select(table, per_class=per_class, min_confidence=low))
    assert ids(select(table, per_class=per_class, min_confidence=high)) <= kept
    assert kept <= ids(select(table, per_class=per_class + more, min_confidence=low))
    assert kept <= ids(select(table, per_class=None, min_confidence=low))


@given(galaxies, st.integers(1, 10), st.floats(0, 1))
def test_balanced_classes_are_equal_and_a_subset(rows, per_class, threshold):
    table = table_of(rows)
    loose = select(table, per_class=per_class, min_confidence=threshold)
    present = np.bincount(loose["label"].to_numpy(), minlength=1 + max((label for label, _ in rows), default=-1))
    if rows and present.min() == 0:
        with pytest.raises(CatalogError, match="no galaxy"):
            select(table, per_class=per_class, min_confidence=threshold, balance=True)
        return
    balanced = select(table, per_class=per_class, min_confidence=threshold, balance=True)
    assert ids(balanced) <= ids(loose)
    assert np.bincount(balanced["label"].to_numpy(), minlength=len(present)).tolist() == [
        min(present, default=0)
    ] * len(present)


@given(galaxies, st.integers(1, 10))
def test_selected_galaxies_are_the_most_confident_in_order(rows, per_class):
    table = table_of(rows)
    kept = select(table, per_class=per_class).to_pylist()
    assert kept == sorted(kept, key=lambda row: (row["label"], -row["confidence"], row["object_id"]))
    for label in range(3):
        ranked = sorted((row["confidence"] for row in table.to_pylist() if row["label"] == label), reverse=True)
        assert [row["confidence"] for row in kept if row["label"] == label] == ranked[:per_class]


def test_ties_are_broken_across_the_whole_sky():
    """Ids are ordered along the sky; sorted as text, 1, 10, 100, 1000 would be first."""
    ids = [str(n) for n in range(1000)]
    table = pa.table({"object_id": ids, "label": pa.array([0] * 1000, pa.int32()), "confidence": [1.0] * 1000})
    kept = select(table, per_class=100)["object_id"].to_pylist()
    numbers = np.array([int(word) for word in kept])
    assert 400 < numbers.mean() < 600
    assert 240 < numbers.std() < 340
    split = assign_splits(kept, (0.6, 0.2, 0.2))
    assert 45 < (split == "train").sum() < 75, "the hash of ties must differ from the hash of splits"


def test_selection_does_not_depend_on_the_order_of_rows():
    table = table_of([(i % 3, 0.5) for i in range(30)])
    shuffled = table.take(np.random.default_rng(0).permutation(30))
    assert select(table, per_class=4).equals(select(shuffled, per_class=4))


def test_balance_names_an_empty_class():
    assigned = assign_classes(catalog_of(ROUND, BAR), GZ2_NINE)
    with pytest.raises(CatalogError, match="smooth_in_between"):
        select(assigned, balance=True)
    with pytest.raises(ConfigError, match="per_class is 0"):
        select(assigned, per_class=0)


def test_report_counts_each_class_of_the_tree():
    assigned = assign_classes(labels(["spiral", "spiral", "round"], [0.9, 0.4, 0.8]), GZ2_FIVE)
    rows = report(assigned, select(assigned, min_confidence=0.5)).to_pylist()
    assert [(r["name"], r["candidates"], r["kept"], r["lowest_confidence"]) for r in rows] == [
        ("round", 1, 1, 0.8),
        ("in_between", 0, 0, None),
        ("cigar", 0, 0, None),
        ("edge_on", 0, 0, None),
        ("spiral", 2, 1, 0.9),
    ]


# ---- real tables ----


def test_real_hart16_table_has_all_nine_classes(data_root):
    catalog = read_catalog(str(data_root / "gz2_hart16" / "gz2_hart16.csv"))
    assigned = assign_classes(catalog, GZ2_NINE)
    counts = report(assigned, select(assigned, per_class=50, min_confidence=0.5))
    assert counts["candidates"].to_pylist() == [209, 285, 160, 45, 15, 20, 3, 40, 10]  # of all 787
    assert counts["kept"].to_pylist()[:3] == [50, 50, 50]
    assert min(c for c in counts["lowest_confidence"].to_pylist() if c is not None) >= 0.5


def test_assigned_class_of_real_votes_is_the_most_probable(data_root):
    assigned = assign_classes(read_catalog(str(data_root / "gz2_hart16" / "gz2_hart16.csv")), GZ2_NINE)
    p = GZ2_NINE.probabilities(votes_array(assigned))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(p.argmax(axis=1), assigned["label"])
    assert 0.2 < p.max(axis=1).min() < 0.5, "the agreement of the volunteers is implausible"


def test_classes_agree_with_the_gz2_class_of_the_release(data_root):
    """Both use debiased fractions. Er, Ei, Ec are smooth, Se is edge-on, SB has a bar."""
    catalog = read_catalog(str(data_root / "gz2_hart16" / "gz2_hart16.csv"), fractions="debiased")
    gz2_class = dict(zip(catalog["object_id"].to_pylist(), _gz2_classes(data_root), strict=True))
    confident = select(assign_classes(catalog, GZ2_NINE), min_confidence=0.6)
    disk = ("Sa", "Sb", "Sc", "Sd")
    start = ["Er", "Ei", "Ec", "Se", "Se", "SB", "SB", disk, disk]
    pairs = zip(confident["object_id"].to_pylist(), confident["label"].to_pylist(), strict=True)
    agree = [gz2_class[object_id].startswith(start[label]) for object_id, label in pairs]
    assert len(agree) > 100
    assert np.mean(agree) > 0.97


def _gz2_classes(data_root: Path) -> list[str]:
    lines = (data_root / "gz2_hart16" / "gz2_hart16.csv").read_text().splitlines()[1:]
    return [line.split(",")[3] for line in lines]


def test_real_label_tables_have_the_counts_of_their_readme(data_root):
    kaggle = assign_classes(read_catalog(str(data_root / "gz2_kaggle" / "labels_5_classes.csv")), GZ2_FIVE)
    assert np.bincount(kaggle["label"]).tolist() == [974, 892, 55, 479, 1340]
    columns = {"id": "PGCname", "label": "class9_derived"}
    efigi = assign_classes(read_catalog(str(data_root / "efigi" / "efigi_attributes.csv"), columns=columns), GZ2_NINE)
    assert np.bincount(efigi["label"]).tolist() == [193, 66, 10, 324, 100, 574, 159, 583, 407]
    assert count_unassigned(efigi)["no_label"] == 1226
    balanced = select(kaggle, per_class=100, balance=True)
    assert np.bincount(balanced["label"]).tolist() == [55] * 5
