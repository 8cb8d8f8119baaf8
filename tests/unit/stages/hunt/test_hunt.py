"""Parts of the hunt stage without Ray: truth, metrics table, votes as fractions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from raydistill.config import load
from raydistill.errors import ArtifactIncompatible, CatalogError, ConfigError
from raydistill.galaxies.trees import GZ2
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.config import Part
from raydistill.stages.hunt.config import Hunt, Oracle, SyntheticSource
from raydistill.stages.hunt.inputs.sources import answer_fractions, check_pictures
from raydistill.stages.hunt.inputs.survey import in_part, read_truth
from raydistill.stages.hunt.report import metric_rows
from raydistill.stages.hunt.specs import hunt_spec
from raydistill.stages.hunt.trials import RANKED_METRICS as METRICS

TABLE = "objid,kind,lane,note\n1,0,0.5,a\n2,1,0.0,b\n3,5,0.9,c\n4,2,,d\n"


def truth(tmp_path, condition, ids=("4", "3", "1", "9"), **keys):
    path = tmp_path / "truth.csv"
    path.write_text(TABLE)
    return read_truth(Oracle(positive=condition, **keys), str(path), list(ids))


def test_truth_follows_the_order_of_the_survey(tmp_path):
    result = truth(tmp_path, "kind <= 2 and lane > 0")
    assert result.known_N.tolist() == [True, True, True, False]
    assert result.positive_N.tolist() == [False, False, True, False]
    assert truth(tmp_path, "note == 'c'").positive_N.tolist() == [False, True, False, False]


def test_zeros_before_an_id_belong_to_it(tmp_path):
    (tmp_path / "truth.csv").write_text("objid,kind\n007,0\n7,1\n08,0\n")
    result = read_truth(Oracle(positive="kind > 0"), str(tmp_path / "truth.csv"), ["007", "7", "08"])
    assert result.known_N.all()
    assert result.positive_N.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("kind <= 2 and lanes > 0", "has no column 'lanes'; did you mean 'lane'?"),
        ("kind +", "'kind +' cannot be computed from the table"),
        ("lane", "'lane' gives no yes or no for each row"),
        ("kind > 90", "no object of the survey fulfils it"),
        ("kind >= 0", "every object of the survey fulfils it"),
    ],
)
def test_wrong_condition_gets_one_sentence(tmp_path, condition, message):
    with pytest.raises(ConfigError) as caught:
        truth(tmp_path, condition)
    assert message in str(caught.value)
    assert "hunt.oracle.positive" in str(caught.value)


def test_wrong_ids_get_one_sentence(tmp_path):
    with pytest.raises(CatalogError, match="it has no column 'objids'; hunt"):
        truth(tmp_path, "kind > 0", id="objids")
    with pytest.raises(CatalogError, match="none of its 4 ids is of the survey"):
        truth(tmp_path, "kind > 0", ids=("x", "y"))


def test_parts_are_disjoint_and_follow_the_ids_alone():
    ids = [f"PGC{number:07d}" for number in range(1200)]
    members = {index: in_part(ids, Part(index, 3)) for index in range(3)}
    assert (sum(member.astype(int) for member in members.values()) == 1).all()
    assert all(340 < member.sum() < 460 for member in members.values())  # 400 ± 16
    for index, member in members.items():
        part = Part(index, 3)
        assert in_part(ids[::-1], part).tolist() == member[::-1].tolist()
        assert in_part(ids[5::7], part).tolist() == member[5::7].tolist()  # whatever else the survey has
    assert in_part(ids, None).all()
    assert in_part([], Part(0, 3)).shape == (0,)


def test_identity_of_a_hunt_follows_its_part():
    parts = [None, "{index: 0, parts: 2}", "{index: 1, parts: 2}"]
    specs = [hunt_spec(Plan(load("demo_hunt", [f"hunt.oracle.part={part}"] if part else []))) for part in parts]
    assert len({spec.identity for spec in specs}) == 3
    assert "part" not in specs[0].config["hunt"]["oracle"]  # reports of the whole survey keep their identity


@pytest.mark.parametrize("key", ["image_size", "crop_fraction", "aligned"])
def test_synthetic_pictures_that_were_prepared_otherwise_are_rejected(key):
    ours = SimpleNamespace(image_size=32, crop_fraction=0.5, aligned=True)
    theirs = SimpleNamespace(**{**vars(ours), key: 0})
    folder = SimpleNamespace(uri="runs/x")
    check_pictures(SimpleNamespace(summary=ours, folder=folder), SimpleNamespace(summary=ours))
    with pytest.raises(ArtifactIncompatible, match=f"runs/x: its pictures have {key} 0, and those of the survey"):
        check_pictures(SimpleNamespace(summary=theirs, folder=folder), SimpleNamespace(summary=ours))


def trial(hits, start, end):
    return {"found": hits, "start": start, "end": end}


def test_differences_are_paired_by_seed():
    first, two = [0.1] * len(METRICS), [0.3] * len(METRICS)
    trials = {
        "real": [trial([True], None, first), trial([True, True], first, first), trial([False], first, first)],
        "injection": [trial([True] * 3, two, two), trial([True] * 4, two, two), trial([True] * 2, two, two)],
    }
    rows = {(row["strategy"], row["moment"], row["metric"]): row for row in metric_rows(trials)}
    result = rows["injection", "end", "found"]
    assert (result["mean"], result["difference"], result["difference_low"], result["seeds"]) == (3.0, 2.0, 2.0, 3)
    start = rows["injection", "start", METRICS[0]]
    assert (start["seeds"], start["difference"]) == (3, pytest.approx(0.2))
    assert rows["real", "start", METRICS[0]]["seeds"] == 2
    assert np.isnan(rows["real", "end", "found"]["difference"])


def test_fraction_of_an_answer_counts_those_who_were_never_asked():
    votes = np.full((2, len(GZ2.answers)), np.nan, np.float32)
    for row, (odd, lane) in enumerate([(0.5, 0.8), (0.1, np.nan)]):
        votes[row, GZ2.index[GZ2.resolve("odd_yes", "test")]] = odd
        votes[row, GZ2.index[GZ2.resolve("dust_lane", "test")]] = lane
    fractions = answer_fractions(votes, GZ2, GZ2.resolve("dust_lane", "test"))
    np.testing.assert_allclose(fractions, [0.4, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"synthetic": {"real": SyntheticSource("a", "b")}}, "a strategy of its own"),
        ({"synthetic": {"a/b": SyntheticSource("a", "b")}}, "letters, digits, - and _"),
        ({"threshold": 1}, r"threshold must lie in \[2, 5\]"),
        ({"oracle": Oracle(positive="a > 0", strategies=("real", "magic"))}, "oracle.strategies names 'magic'"),
    ],
)
def test_wrong_values_of_the_config_are_rejected(keys, message):
    with pytest.raises(ValueError, match=message):
        Hunt(**keys)


def test_default_strategies_are_those_that_apply():
    source = {"injection": SyntheticSource("a", "b")}
    assert Hunt().strategies == ()
    assert Hunt(synthetic=source, oracle=Oracle(positive="a > 0")).strategies == (
        "upper_bound", "injection", "real", "random",
    )  # fmt: skip
    assert Hunt(oracle=Oracle(positive="a > 0", attributes=("smooth",))).strategies[-1] == "attributes"
