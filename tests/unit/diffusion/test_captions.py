"""Captions: by value, deterministic, ordered by weight."""

from __future__ import annotations

import pytest
import torch

from raydistill.diffusion.captions import answer_tags, answer_weights, captions
from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.errors import ConfigError
from raydistill.galaxies.trees import GZ2, GZ_DECALS, TREES

VOTES = ConditionLayout((ConditionGroup("votes", 37, GZ2.answers),))
BOTH = ConditionLayout((ConditionGroup("class", 2, ("edge_on", "no-bar spiral")), *VOTES.groups))
SMOOTH = {"smooth": 0.92, "features_or_disk": 0.08, "completely_round": 0.88, "in_between": 0.12, "odd_no": 1.0}
SPIRAL = {
    "features_or_disk": 0.9, "edgeon_no": 1.0, "spiral": 0.8, "no_bar": 1.0, "obvious": 0.5, "tight": 0.9, "2": 1.0,
    "odd_yes": 0.4, "dust_lane": 0.75,
}  # fmt: skip


def votes(*galaxies: dict[str, float], known: bool = False) -> torch.Tensor:
    """Return vote fractions [B, 37]; other answers are 0, or NaN if `known` is set."""
    table = torch.full((len(galaxies), 37), torch.nan if known else 0.0)
    for row, answers in zip(table, galaxies, strict=True):
        for word, fraction in answers.items():
            row[GZ2.index[GZ2.resolve(word)]] = fraction
    return table


def caption(layout: ConditionLayout, **groups: torch.Tensor) -> str:
    (result,) = captions(layout, Conditions.of(layout, 1, **groups))
    return result


def test_tags_stand_in_order_of_weight() -> None:
    assert caption(VOTES, votes=votes(SMOOTH)) == "galaxy, smooth 0.92, completely round 0.81"
    # 0.9, 0.9 x 0.8, 0.72 x 0.9, 0.9 x 0.5; "odd" leads to "dust lane".
    assert caption(VOTES, votes=votes(SPIRAL)) == (
        "galaxy, features or disk 0.90, spiral 0.72, 2 arms 0.72, tightly wound arms 0.65, "
        "obvious bulge 0.45, odd 0.40, dust lane 0.30"
    )


def test_answers_of_few_volunteers_have_no_tag() -> None:
    assert caption(VOTES, votes=votes({"smooth": 0.79, "features_or_disk": 0.21})) == (
        "galaxy, smooth 0.79, features or disk 0.21"
    )
    assert caption(VOTES, votes=votes({"smooth": 0.81, "features_or_disk": 0.19})) == "galaxy, smooth 0.81"


def test_question_after_unknown_answers_counts_as_asked() -> None:
    assert caption(VOTES, votes=votes({"dust_lane": 0.9}, known=True)) == "galaxy, dust lane 0.90"
    assert caption(VOTES, votes=votes({"dust_lane": 0.9})) == "galaxy"


def test_nothing_known_has_the_empty_caption() -> None:
    assert captions(BOTH, Conditions.unknown(2, BOTH)) == ["", ""]
    assert captions(ConditionLayout(), Conditions.unknown(1, ConditionLayout())) == [""]


def test_votes_take_precedence_over_the_class() -> None:
    spiral = torch.tensor([[0.0, 1.0]])
    assert caption(BOTH, **{"class": spiral}) == "galaxy, no bar spiral"
    assert caption(BOTH, **{"class": spiral, "votes": votes(SMOOTH)}).startswith("galaxy, smooth 0.92")
    unnamed = ConditionLayout((ConditionGroup("class", 2),))
    assert caption(unnamed, **{"class": spiral}) == "galaxy, class 1"


def test_captions_do_not_depend_on_the_other_galaxies() -> None:
    conditions = Conditions.of(VOTES, 2, votes=votes(SMOOTH, SPIRAL))
    assert captions(VOTES, conditions) == [*captions(VOTES, conditions[:1]), *captions(VOTES, conditions[1:])]


def test_37_votes_without_labels_are_those_of_galaxy_zoo_2() -> None:
    plain = ConditionLayout((ConditionGroup("votes", 37),))
    assert caption(plain, votes=votes(SMOOTH)) == caption(VOTES, votes=votes(SMOOTH))


def test_other_surveys_have_tags_of_question_and_answer() -> None:
    layout = ConditionLayout((ConditionGroup("votes", len(GZ_DECALS.answers), GZ_DECALS.answers),))
    table = torch.zeros(1, layout.size)
    for stem in ("smooth-or-featured_featured-or-disk", "disk-edge-on_no", "has-spiral-arms_yes", "bar_weak"):
        table[0, GZ_DECALS.index[stem]] = 1
    assert caption(layout, votes=table) == "galaxy, featured or disk 1.00, has spiral arms 1.00, bar weak 1.00"


@pytest.mark.parametrize("name", TREES)
def test_tags_of_a_tree_differ(name: str) -> None:
    tags = list(answer_tags(TREES[name]).values())
    assert len(set(tags)) == len(tags) > 0
    assert all(word not in tag.split() for tag in tags for word in ("none", "yes"))


def test_weights_of_the_answers_to_a_question_add_up_to_the_weight_before_it() -> None:
    fractions = torch.rand(5, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for task in GZ2.tasks:
        columns = GZ2.columns_of(task)
        fractions[:, columns] /= fractions[:, columns].sum(dim=1, keepdim=True)
    weights = answer_weights(GZ2, fractions)
    for task in GZ2.tasks:
        before = weights[:, [GZ2.index[stem] for stem in task.asked_after]].sum(dim=1) if task.asked_after else 1.0
        total = weights[:, GZ2.columns_of(task)].sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total) * before)


def test_groups_that_captions_cannot_describe_are_rejected() -> None:
    for group in (ConditionGroup("size", 1), ConditionGroup("votes", 12)):
        layout = ConditionLayout((group,))
        with pytest.raises(ConfigError, match="captions describe"):
            captions(layout, Conditions.unknown(1, layout))


def test_a_group_has_a_label_for_each_number_or_none() -> None:
    with pytest.raises(ValueError, match="needs 2 labels, got 1"):
        ConditionLayout((ConditionGroup("class", 2, ("spiral",)),))
