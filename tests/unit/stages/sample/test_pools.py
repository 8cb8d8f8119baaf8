"""Conditions of samples: classes, answers, tables and real galaxies.

The real galaxies have an answer changed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill.diffusion.conditions import ConditionLayout
from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.classes import GZ2_FIVE
from raydistill.galaxies.trees import GZ2
from raydistill.stages.curate.select.conditions import ConditionEncoding, fit_encoding
from raydistill.stages.sample.artifact import NO_CLASS
from raydistill.stages.sample.config import (
    AnswerConditions,
    ClassConditions,
    Condition,
    GalaxyConditions,
    NoConditions,
    TableConditions,
)
from raydistill.stages.sample.sources.galaxies import Survey, classify
from raydistill.stages.sample.sources.pools import Pool, make_pools
from raydistill.storage import Folder
from tests.unit.stages.sample_tools import CLASSES, NAMES, votes_of, write_curated


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey(write_curated(Folder(tmp_path_factory.mktemp("curated") / "c")), GZ2, CLASSES)


@pytest.fixture
def pools(survey: Survey):
    def pools(wanted: Condition | None, *groups: str) -> list[Pool]:
        return make_pools(wanted, survey, fit_encoding(survey.curated, groups or None))

    return pools


def test_by_default_there_is_a_pool_of_training_galaxies_for_each_class(pools) -> None:
    result = pools(None)
    assert [pool.name for pool in result] == list(NAMES)
    assert [pool.random for pool in result] == [True, True]
    assert result[1].galaxies.origins == tuple(f"g1{number}" for number in range(1, 6))
    np.testing.assert_array_equal(result[1].galaxies.votes_NA[0], votes_of(11, 1))
    assert result[1].conditions.known_BV.all()


def test_random_galaxies_depend_on_seed_and_index_alone(pools) -> None:
    pool = pools(ClassConditions(classes=("disk",)))[0]
    numbers, indices = np.arange(40), 3 * np.arange(40)
    rows = pool.rows(numbers, indices, seed=1)
    assert set(rows.tolist()) == set(range(5))
    np.testing.assert_array_equal(pool.rows(numbers[7:9], indices[7:9], seed=1), rows[7:9])
    assert (pool.rows(numbers, indices, seed=2) != rows).any()


def test_a_label_alone_leaves_votes_and_size_unknown(pools, survey: Survey) -> None:
    (pool,) = pools(ClassConditions(classes=("disk",), like="label"))
    known = pool.conditions.known_BV[0]
    columns = fit_encoding(survey.curated).layout.slice("class")
    assert known.sum() == 2
    assert pool.conditions.values_BV[0, columns].tolist() == [0, 1]
    assert (pool.galaxies.origins, pool.galaxies.labels_N.tolist()) == ((None,), [1])


def test_answers_give_one_galaxy_and_its_class(pools, survey: Survey) -> None:
    (pool,) = pools(AnswerConditions(answers={"smooth": 0.2, "features_or_disk": 0.8, "edgeon_no": 1}, petro_r90=8.0))
    assert (len(pool.galaxies), pool.galaxies.labels_N.tolist()) == (1, [1])
    assert pool.galaxies.confidence_N[0] == pytest.approx(0.8)
    layout = fit_encoding(survey.curated).layout
    values, known = pool.conditions.values_BV[0], pool.conditions.known_BV[0]
    assert known[layout.slice("votes")].sum() == 5
    torch.testing.assert_close(values[layout.slice("votes")][:5], torch.tensor([0.2, 0.8, 0, 0, 1]))
    assert known[layout.slice("size")].all()


def test_a_class_is_determined_only_if_no_unknown_answer_could_change_it() -> None:
    votes = np.full((3, 37), np.nan)
    votes[:, :3] = [[0.9, 0.1, 0], [0.9, 0.1, 0], [0.4, 0.6, 0]]
    votes[1:, GZ2.columns_of(GZ2.tasks[6])] = [[0.7, 0.3, 0], [1, 0, 0]]
    labels, confidence = classify(votes, GZ2_FIVE)
    assert labels.tolist() == [NO_CLASS, GZ2_FIVE.names.index("round"), NO_CLASS]
    assert confidence[1] == pytest.approx(0.63)
    assert np.isnan(confidence[[0, 2]]).all()


def test_a_changed_answer_changes_its_question_the_class_and_nothing_else(pools) -> None:
    (pool,) = pools(GalaxyConditions(object_ids=("g03", "g12"), answers={"features_or_disk": 1}))
    assert pool.galaxies.origins == ("g03", "g12")
    assert pool.galaxies.labels_N.tolist() == [1, 1]
    for row, original in enumerate([votes_of(3, 0), votes_of(12, 1)]):
        changed = pool.galaxies.votes_NA[row]
        assert changed[:3].tolist() == [0, 1, 0]
        rounded = GZ2.columns_of(GZ2.tasks[6])
        assert np.isnan(changed[rounded]).all()  # no volunteer is asked how round a disk is
        kept = np.delete(np.arange(37), [0, 1, 2, *range(rounded.start, rounded.stop)])
        np.testing.assert_array_equal(changed[kept], original[kept])


def test_galaxies_of_a_split_are_taken_in_turn(pools) -> None:
    (pool,) = pools(GalaxyConditions(split="test"))
    assert pool.galaxies.origins == ("g00", "g10")
    assert pool.rows(np.arange(5), np.arange(5), 0).tolist() == [0, 1, 0, 1, 0]


def test_nothing_is_known_without_conditions(pools, survey: Survey) -> None:
    for (pool,) in (
        pools(NoConditions()),
        make_pools(None, survey, ConditionEncoding(ConditionLayout())),
    ):
        assert not pool.conditions.known_BV.any()
        assert pool.galaxies.labels_N.tolist() == [NO_CLASS]
        assert np.isnan(pool.galaxies.votes_NA).all()


def table(path: Path, text: str) -> TableConditions:
    path.write_text(text)
    return TableConditions(table=str(path))


KAGGLE = "GalaxyID," + ",".join(
    f"Class{task.number}.{n + 1}" for task in GZ2.tasks for n in range(len(task.answers))
)  # fmt: skip


def kaggle_row(name: str, smooth: float) -> str:
    """Return a row of Kaggle's table, with values cumulative down the tree.

    Everybody sees odd features.
    """
    values = {task.number: [0.0] * len(task.answers) for task in GZ2.tasks}
    values[1] = [smooth, 1 - smooth, 0]
    values[2], values[6], values[7] = [0, 1 - smooth], [0, 1], [smooth, 0, 0]
    return ",".join([name, *(str(value) for task in GZ2.tasks for value in values[task.number])])


def test_a_table_gives_a_galaxy_per_row(pools, tmp_path: Path) -> None:
    rows = "\n".join([KAGGLE, kaggle_row("a", 0.9), kaggle_row("b", 0.2)])
    (pool,) = pools(table(tmp_path / "t.csv", rows + "\n"))
    assert (pool.galaxies.origins, pool.galaxies.labels_N.tolist()) == (("a", "b"), [0, 1])
    np.testing.assert_allclose(pool.galaxies.votes_NA[:, :2], [[0.9, 0.1], [0.2, 0.8]], atol=1e-6)


def test_a_table_of_labels_gives_classes(pools, survey: Survey, tmp_path: Path) -> None:
    (pool,) = pools(table(tmp_path / "t.csv", "id,label\na,disk\nb,round\n"))
    assert pool.galaxies.labels_N.tolist() == [1, 0]
    columns = fit_encoding(survey.curated).layout.slice("class")
    assert pool.conditions.values_BV[:, columns].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(CatalogError, match=r"the label 'disc' is not a class of the curated set; did you mean 'disk'?"):
        pools(table(tmp_path / "t.csv", "id,label\na,disc\n"))


@pytest.mark.parametrize(
    ("wanted", "groups", "message"),
    [
        (AnswerConditions(answers={"smooth": 1}), ("class",), r"not trained with the condition 'votes' \(its conditions: class\)"),
        (AnswerConditions(answers={"smooth": 1}, petro_r90=3.0), ("votes",), "not trained with the condition 'size'"),
        (ClassConditions(like="label"), ("votes",), "not trained with the condition 'class'"),
        (GalaxyConditions(answers={"smooth": 1}), ("class", "size"), "not trained with the condition 'votes'"),
        (ClassConditions(classes=("disk", "disk")), (), "a class is named twice"),
        (ClassConditions(classes=("elliptical",)), (), "there is no class 'elliptical'"),
        (GalaxyConditions(object_ids=("g99",)), (), "the curated set has no galaxy 'g99'; check the id"),
        (GalaxyConditions(split="validation"), (), "the validation split has no galaxy"),
    ],
)  # fmt: skip
def test_wrong_conditions_have_their_sentence(pools, wanted: Condition, groups: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pools(wanted, *groups)


def test_a_changed_answer_that_no_volunteer_reaches_is_an_error(pools) -> None:
    """Everybody takes g00 for a smooth galaxy, and bars are asked of disks."""
    with pytest.raises(
        ConfigError, match="cannot reach the question 'bar' of the galaxy g00; also give a fraction to t02_"
    ):
        pools(GalaxyConditions(object_ids=("g03", "g00"), answers={"bar": 1}))
