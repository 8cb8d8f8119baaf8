"""Labels that are names, numbers or truth values, matched with classes."""

from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.config import Curate
from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.classes import GZ2_NINE, load_class_tree, parse_class_tree
from raydistill.galaxies.labels import LabelledClass, mapping_example
from raydistill.galaxies.selection import assign_classes, count_unassigned


def table(words: list[str | None]) -> pa.Table:
    ids = [f"g{i}" for i in range(len(words))]
    return pa.table({"object_id": ids, "label": pa.array(words, pa.string()), "confidence": [1.0] * len(words)})


def assigned(words: list[str | None], classes: Any) -> list[tuple[str, int]]:
    tree = load_class_tree(Curate(classes=classes).classes)
    result = assign_classes(table(words), tree)
    return list(zip(result["object_id"].to_pylist(), result["label"].to_pylist(), strict=True))


MANGA = ["0", "1", "2", "3", "3", "1", None]  # Visual_Class: 0 unknown, 1 E, 2 S0, 3 spiral


def test_mapping_gives_each_class_its_numbers():
    result = assigned(MANGA, {"elliptical": 1, "s0": 2, "spiral": 3})
    assert result == [("g1", 0), ("g2", 1), ("g3", 2), ("g4", 2), ("g5", 0)]


def test_order_of_a_mapping_is_the_order_of_the_classes():
    assert assigned(["1", "2"], {"b": 2, "a": 1}) == [("g0", 1), ("g1", 0)]
    first, second = Curate(classes={"a": 1, "b": 2}), Curate(classes={"b": 2, "a": 1})
    assert first.classes != second.classes


def test_several_labels_may_have_one_class():
    words = ["E", "S0", "Sa", "Sb", "Irr"]
    assert assigned(words, {"early": ["E", "S0"], "late": ["Sa", "Sb"]}) == [("g0", 0), ("g1", 0), ("g2", 1), ("g3", 1)]


@pytest.mark.parametrize("words", [["1", "2", "3"], ["1.0", "2.0", "3.0"], ["1e0", "2.", "3.00"], ["+1", "02", "3"]])
def test_numbers_match_in_any_spelling(words):
    assert assigned(words, {"a": 1, "b": 2, "c": 3}) == [("g0", 0), ("g1", 1), ("g2", 2)]
    assert assigned(words, ["1", 2, 3.0]) == [("g0", 0), ("g1", 1), ("g2", 2)]


def test_listed_floats_are_labels():
    """T types of galaxies are floats."""
    assert assigned(["-5", "3", "3.0", "-4.9"], [-5.0, 3.0]) == [("g0", 0), ("g1", 1), ("g2", 1)]


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (["yes", "no"], [True, False]),
        (["true", "false"], [True, False]),
        (["True", "False"], ["yes", "no"]),
        (["ON", "OFF"], [True, False]),
        (["yes", "no"], {"barred": True, "unbarred": False}),
        (["Yes", "NO"], {"barred": "on", "unbarred": "off"}),
    ],
)
def test_truth_values_match_in_any_spelling(words, classes):
    assert assigned(words, classes) == [("g0", 0), ("g1", 1)]


def test_truth_value_is_no_number():
    with pytest.raises(ConfigError, match=r"the labels are numbers \(0, 1\).* curate.classes=\{yes: 1, no: 0\}"):
        assigned(["1", "0"], [True, False])


def test_example_gives_truth_values_their_numbers():
    with pytest.raises(ConfigError, match=r"numbers \(0, 1\).* curate.classes=\{barred: 1, unbarred: 0\}"):
        assigned(["1", "0"], {"barred": True, "unbarred": False})


@pytest.mark.parametrize("classes", [{"a": 1, "b": [1.0, 2]}, {"a": ["01", 2], "b": 1}, {"a": 2, "b": [1, "2.00"]}])
def test_number_of_two_classes_is_rejected_in_any_spelling(classes):
    with pytest.raises(ConfigError, match=r"the label '(1\.0|01|2\.00)' is given twice; give each label to one class"):
        assigned(["1", "2"], classes)


def test_exact_text_has_priority_over_an_equal_number():
    assert assigned(["1", "01", "1.0"], ["1", "01"]) == [("g0", 0), ("g1", 1)]


codes = st.lists(st.integers(-99, 99).filter(lambda n: n != -1), min_size=2, max_size=6, unique=True)


@given(codes, st.booleans(), st.booleans())
def test_list_of_names_over_numbers_is_rejected_for_every_code_set(numbers, floats, missing):
    words = [f"{n}.0" if floats else str(n) for n in numbers] + [None, "nan"] * missing
    names = [f"class{chr(97 + i)}" for i in range(len(numbers))]
    with pytest.raises(ConfigError, match=r"the labels are numbers .*give each class its numbers, for example curate"):
        assigned(words, names)


@given(codes, st.data())
def test_mapping_of_any_code_set_gives_the_position_of_the_class(numbers, data):
    groups = data.draw(st.lists(st.integers(0, 2), min_size=len(numbers), max_size=len(numbers)))
    mapping: dict[str, list[int]] = {}
    for number, group in zip(numbers, groups, strict=True):
        mapping.setdefault(f"class{group}", []).append(number)
    order = list(mapping)
    expected = [(f"g{i}", order.index(f"class{group}")) for i, group in enumerate(groups)]
    assert assigned([str(n) for n in numbers], mapping) == expected


def test_example_leaves_out_the_number_zero_if_it_has_no_class():
    assert mapping_example(["elliptical", "s0", "spiral"], ["0", "1", "2", "3"]) == (
        "curate.classes={elliptical: 1, s0: 2, spiral: 3}"
    )
    assert mapping_example(["a", "b"], ["0", "1"]) == "curate.classes={a: 0, b: 1}"


def test_numbers_beside_names_have_no_class():
    tree = load_class_tree(["cat", "dog"])
    result = assign_classes(table(["cat", "dog", "1", "0"]), tree)
    assert result["object_id"].to_pylist() == ["g0", "g1"]
    assert count_unassigned(result)["other_label"] == 2


def test_label_of_no_galaxy_is_rejected_or_logged(caplog):
    with pytest.raises(CatalogError, match=r"no galaxy has the label 'SO'; did you mean 'S0'\?"):
        assigned(["E", "S0"], {"early": "E", "s0": "SO"})
    assert assigned(["E", "Sa"], {"early": ["E", "S0"], "late": "Sa"}) == [("g0", 0), ("g1", 1)]
    assert "no galaxy has the label 'S0' of the class 'early'" in caplog.text


def test_label_of_two_classes_is_rejected():
    with pytest.raises(ConfigError, match="the label '1' is given twice; give each label to one class"):
        load_class_tree(Curate(classes={"a": [1, 2], "b": 1}).classes)


@pytest.mark.parametrize("classes", [{"a": {"b": 1}, "c": 2}, {"a": [], "b": 1}, {"a": None, "b": 1}, [None, "b"]])
def test_class_without_a_label_is_rejected(classes):
    with pytest.raises(ValueError, match=r"write \{elliptical: 1, s0: 2, spiral: \[3, 4\]\}"):
        Curate(classes=classes)


def test_tree_reads_numbers_as_positions_and_says_so(caplog):
    with caplog.at_level(logging.INFO, "raydistill"):
        result = assign_classes(table(["8", "0"]), GZ2_NINE)
    assert result["label"].to_pylist() == [8, 0]
    assert "labels are numbers, read as positions in 'gz2-9': 0 = smooth_round, 1 = smooth_in_between" in caplog.text
    assert "no galaxy has the label 0" not in caplog.text


def test_tree_with_numbers_from_one_is_rejected_or_logged(caplog):
    tree = parse_class_tree({"name": "manga", "classes": ["elliptical", "s0", "spiral"]})
    with pytest.raises(CatalogError, match=r"'3' is not a class .* curate.classes=\{elliptical: 1, s0: 2, spiral: 3\}"):
        assign_classes(table(MANGA), tree)
    assign_classes(table(["1", "2"]), tree)
    assert "no galaxy has the label 0, the class 'elliptical'; if labels start at 1, set curate.classes=" in caplog.text


def test_labels_survive_the_written_config():
    """A stage writes its config with plain values, and reads them again."""
    classes = Curate(classes={"early": [1, "S0"], "late": 3}).classes
    assert classes == (LabelledClass("early", ("1", "S0")), LabelledClass("late", ("3",)))
    written = [{"name": "early", "labels": ["1", "S0"]}, {"name": "late", "labels": ["3"]}]
    assert Curate(classes=written).classes == Curate(classes=[{"early": [1, "S0"]}, {"late": 3}]).classes == classes
