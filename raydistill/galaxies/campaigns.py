"""Find the votes of Galaxy Zoo's campaigns in the columns of a table.

Tables have the names of galaxy-datasets: question, campaign, answer and kind, as in
`smooth-or-featured-dr5_smooth_fraction`. A release of one campaign may leave the campaign out
(`smooth-or-featured_smooth_fraction`). Databases write underscores, so upper and lower case and
signs between the words do not matter.

| kind | meaning |
|---|---|
| `_fraction` | fraction of the volunteers who were asked, or its prediction |
| `_debiased` | the same, corrected for distance |
| none | number of votes, or a prediction in proportion to it (Dirichlet concentration) |
| `_total-votes`, `_total` | votes on the question |

The first is read; `survey.fractions=debiased` reads the second. Without both, the third is divided
by its sum over the question.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raydistill.errors import CatalogError
from raydistill.galaxies.tree import DecisionTree, Task
from raydistill.galaxies.trees import (
    GZ2,
    GZ_CANDELS,
    GZ_COSMIC_DAWN,
    GZ_DECALS,
    GZ_DECALS_12,
    GZ_EUCLID,
    GZ_HUBBLE,
    GZ_JWST,
    GZ_RINGS,
)


@dataclass(frozen=True)
class Campaign:
    """One campaign: its catalog schema name, its tree, and the tag in its columns."""

    name: str
    tree: DecisionTree
    tag: str


# Columns without a tag are read as the first campaign with their tree.
CAMPAIGNS: Mapping[str, Campaign] = {
    campaign.name: campaign
    for campaign in (
        Campaign("galaxy-datasets", GZ2, "gz2"),
        Campaign("gz-ukidss", GZ2, "ukidss"),
        Campaign("gz-decals-12", GZ_DECALS_12, "dr12"),
        Campaign("gz-decals-5", GZ_DECALS, "dr5"),
        Campaign("gz-decals-8", GZ_DECALS, "dr8"),
        Campaign("gz-desi", GZ_DECALS, "desi"),
        Campaign("gz-hubble", GZ_HUBBLE, "hubble"),
        Campaign("gz-candels", GZ_CANDELS, "candels"),
        Campaign("gz-cosmic-dawn", GZ_COSMIC_DAWN, "cd"),
        Campaign("gz-jwst", GZ_JWST, "jwst"),
        Campaign("gz-euclid", GZ_EUCLID, "euclid"),
        Campaign("gz-rings", GZ_RINGS, "rings"),
    )
}

# GZ2's names in galaxy-datasets (label_metadata.gz2_ortho_pairs), by the number of the task.
_GZ2_NAMES: Mapping[int, tuple[str, str]] = {
    1: ("smooth-or-featured", "smooth featured-or-disk artifact"),
    2: ("disk-edge-on", "yes no"),
    3: ("bar", "yes no"),
    4: ("has-spiral-arms", "yes no"),
    5: ("bulge-size", "no just-noticeable obvious dominant"),
    6: ("something-odd", "yes no"),
    7: ("how-rounded", "round in-between cigar"),
    8: ("odd-feature", "ring lens-or-arc disturbed irregular other merger dust-lane"),
    9: ("bulge-shape", "round boxy no-bulge"),
    10: ("spiral-winding", "tight medium loose"),
    11: ("spiral-arm-count", "1 2 3 4 more-than-4 cant-tell"),
}

FRACTION, DEBIASED, COUNT = "_fraction", "_debiased", ""
_TOTALS = ("_total-votes", "_total")
_PREFIX = "morph_"  # of Euclid's morphology in a joint catalogue (IRSA)


def names_of(tree: DecisionTree, task: Task) -> tuple[str, list[tuple[str, ...]]]:
    """Return a question's name in the columns of a table, and each answer's names."""
    if tree == GZ2:
        question, answers = _GZ2_NAMES[task.number]
        return question, [(answer,) for answer in answers.split()]
    return task.key, [(answer.key, *answer.also) for answer in task.answers]


@dataclass(frozen=True)
class TaskColumns:
    """The columns of one question by kind; `expected` has their usual names.

    `answers` holds one name or None per answer.
    """

    expected: Mapping[str, tuple[str, ...]]
    answers: Mapping[str, tuple[str | None, ...]]
    total: str | None

    @property
    def found(self) -> set[str]:
        """Return all columns of answers that the table has."""
        return {name for names in self.answers.values() for name in names if name is not None}

    def has_all(self, kind: str) -> bool:
        """Return whether the table has this kind for every answer."""
        return None not in self.answers[kind]

    @property
    def is_whole(self) -> bool:
        """Return whether the table has one kind for every answer, or no answer at all."""
        return not self.found or any(map(self.has_all, self.answers))


@functools.lru_cache(maxsize=1 << 14)  # the names of every tree are compared with every table
def spell(name: str) -> str:
    """Return a name without case, and with underscores for all signs between words."""
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


def find_columns(tree: DecisionTree, tag: str, present: Sequence[str]) -> list[TaskColumns]:
    """Return the columns of each question; empty `tag`: names without a campaign."""
    spelt = [(spell(name), name) for name in reversed(present)]
    by_spelling = {name.removeprefix(_PREFIX): column for name, column in spelt} | dict(spelt)
    columns = []
    for task in tree.tasks:
        key, answers = names_of(tree, task)
        question = f"{key}-{tag}" if tag else key
        stems = [[f"{question}_{name}" for name in names] for names in answers]
        expected = {kind: tuple(names[0] + kind for names in stems) for kind in (FRACTION, COUNT, DEBIASED)}
        columns_of = {
            kind: tuple(
                next(filter(None, (by_spelling.get(spell(stem + kind)) for stem in names)), None) for names in stems
            )
            for kind in expected
        }
        total = next(filter(None, (by_spelling.get(spell(question + suffix)) for suffix in _TOTALS)), None)
        columns.append(TaskColumns(expected, columns_of, total))
    return columns


def columns_of(campaign: Campaign, present: Sequence[str]) -> list[TaskColumns]:
    """Return each question's columns: with the campaign's tag, or else without one."""
    tagged = find_columns(campaign.tree, campaign.tag, present)
    untagged = find_columns(campaign.tree, "", present)
    return untagged if not _found(tagged) and _found(untagged) else tagged


def find_campaigns(present: Sequence[str]) -> list[Campaign]:
    """Return a table's campaigns: those with tags, and those of untagged columns."""
    tagged = [campaign for campaign in CAMPAIGNS.values() if _found(find_columns(campaign.tree, campaign.tag, present))]
    return tagged + [campaign for campaign in _untagged(present) if campaign not in tagged]


def choose_campaign(present: Sequence[str], uri: str) -> Campaign | None:
    """Return the campaign whose votes a table holds, or None.

    Raises
    ------
    CatalogError
        If the table holds votes of several campaigns.
    """
    campaigns = find_campaigns(present)
    if len(campaigns) > 1:
        what = f"holds votes that fit several campaigns of Galaxy Zoo ({', '.join(campaign.name for campaign in campaigns)})"
        raise CatalogError(what, uri, f"choose one, as survey.dialect={campaigns[0].name}")
    return campaigns[0] if campaigns else None


def _untagged(present: Sequence[str]) -> list[Campaign]:
    """Return one campaign for each tree that best fits columns without a tag.

    A tree fits if the table has its first question, and another tree explains fewer columns.
    """
    first: dict[str, Campaign] = {}
    for campaign in CAMPAIGNS.values():
        first.setdefault(campaign.tree.name, campaign)
    columns = {campaign: find_columns(campaign.tree, "", present) for campaign in first.values()}
    explained = {campaign: _found(names) for campaign, names in columns.items() if names[0].found and names[0].is_whole}
    best = [campaign for campaign, names in explained.items() if not any(names < other for other in explained.values())]
    whole = [campaign for campaign in best if all(task.is_whole for task in columns[campaign])]
    return whole or best


def _found(columns: Sequence[TaskColumns]) -> set[str]:
    return {name for task in columns for name in task.found}


def usual_names() -> list[str]:
    """Return the columns of all campaigns, with hyphens and with underscores."""
    names = []
    for campaign in CAMPAIGNS.values():
        for tag in (campaign.tag, ""):
            for task in find_columns(campaign.tree, tag, ()):
                names += [name for expected in task.expected.values() for name in expected]
    return [*names, *map(spell, names)]
