"""Describe conditions by captions, from which a text encoder embeds them.

A caption lists the answers of a decision tree with the fraction of volunteers who gave each:

    galaxy, smooth 0.92, completely round 0.81

The weight of an answer is its vote fraction times the weight of the answers that lead to its
question. Weights fall along a path, so the order by weight begins with the general answers. Answers
with less than `MIN_WEIGHT` are left out, and so are answers that deny a feature ("no bar"). A galaxy
with a class and no votes has the caption "galaxy, CLASS". Without votes and class it is empty.

GalaxySD (Ma et al. 2025, arXiv:2506.16233) writes tags without weights, such as "sdss, spiral galaxy,
obvious bulge prominence, tightly wound spiral arms, 2 spiral arms". Its rule for choosing them is not
published. It raises the weight of a tag at sampling only.

Shapes: B galaxies, A answers of a decision tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.errors import ConfigError
from raydistill.galaxies.tree import Answer, DecisionTree, Task
from raydistill.galaxies.trees import GZ2, TREES

SUBJECT = "galaxy"  # the first word of every caption
MIN_WEIGHT = 0.2  # ours: about ten tags then fit into the 77 tokens of CLIP
DESCRIBED = ("votes", "class")  # groups that a caption can describe

# After the prompts of GalaxySD, without the word "galaxy". Answers that deny a feature have no tag,
# and "other" and "can't tell" say nothing beyond the answer before them.
_GZ2_TAGS: Mapping[int, str] = {
    1: "smooth", 2: "features or disk", 3: "star or artifact",
    4: "edge-on",
    6: "bar",
    8: "spiral",
    10: "no bulge", 11: "just noticeable bulge", 12: "obvious bulge", 13: "dominant bulge",
    14: "odd",
    16: "completely round", 17: "in-between round", 18: "cigar-shaped",
    19: "ring", 20: "lens or arc", 21: "disturbed", 22: "irregular", 24: "merger", 38: "dust lane",
    25: "rounded edge-on bulge", 26: "boxy edge-on bulge", 27: "no edge-on bulge",
    28: "tightly wound arms", 29: "medium wound arms", 30: "loosely wound arms",
    31: "1 arm", 32: "2 arms", 33: "3 arms", 34: "4 arms", 36: "more than 4 arms",
}  # fmt: skip
_DENIALS = ("no", "none", "cant-tell", "neither")


def captions(layout: ConditionLayout, conditions: Conditions) -> list[str]:
    """Return the caption of each condition.

    Parameters
    ----------
    layout
        Groups "votes" and "class", or one of them. Their labels name the answers and the classes.
        37 votes without labels are those of Galaxy Zoo 2.
    conditions
        B conditions; votes in [0, 1].

    Returns
    -------
    list of str
        B captions. Equal conditions give equal captions.

    Raises
    ------
    ConfigError
        The layout has a group that captions cannot describe.

    Examples
    --------
    >>> layout = ConditionLayout((ConditionGroup("class", 2, ("edge_on", "spiral")),))
    >>> captions(layout, Conditions.of(layout, 1, **{"class": torch.tensor([[0.0, 1.0]])}))
    ['galaxy, spiral']
    """
    check_layout(layout)
    tags: list[list[str]] = [[] for _ in range(len(conditions))]
    for group in sorted(layout.groups, key=lambda group: DESCRIBED.index(group.name)):
        columns = layout.slice(group.name)
        values, known = conditions.values_BV[:, columns].cpu(), conditions.known_BV[:, columns].cpu()
        values = torch.where(known, values, torch.nan)
        describe = _vote_tags if group.name == "votes" else _class_tags
        for words, new, any_known in zip(tags, describe(group, values), known.any(dim=1).tolist(), strict=True):
            if any_known and not words:
                words += [SUBJECT, *new]
    return [", ".join(words) for words in tags]


def check_layout(layout: ConditionLayout) -> None:
    """Raise ConfigError if the layout has a group that captions cannot describe."""
    for group in layout.groups:
        if group.name not in DESCRIBED:
            what = f"captions describe votes and class, not {group.name}"
            raise ConfigError(what, "generate.conditions", "set generate.conditions=[votes,class], or one of the two")
        if group.name == "votes":
            _tree_of(group)


def answer_weights(tree: DecisionTree, votes_BA: Tensor) -> Tensor:
    """Return the weights [B, A] of all answers in captions.

    Parameters
    ----------
    tree
        The decision tree of the votes.
    votes_BA
        Fractions of the votes on each question; NaN where unknown. A question after unknown answers
        counts as asked of all volunteers.

    Returns
    -------
    torch.Tensor
        As `votes_BA`; 0 where unknown.
    """
    weights_BA = torch.full_like(votes_BA, torch.nan)
    for task in tree.tasks:  # a question stands after those that lead to it
        before_BQ = weights_BA[:, [tree.index[stem] for stem in task.asked_after]]
        reached_B = torch.where(before_BQ.isnan().all(dim=1), 1, before_BQ.nansum(dim=1).clamp(max=1))
        columns = tree.columns_of(task)
        weights_BA[:, columns] = reached_B[:, None] * votes_BA[:, columns]
    return weights_BA.nan_to_num(0)


def _vote_tags(group: ConditionGroup, votes_BA: Tensor) -> list[list[str]]:
    """Return the tags of each galaxy by falling weight, equal weights in tree order."""
    tree = _tree_of(group)
    tags = answer_tags(tree)
    return [
        [f"{tags[a]} {weights[a]:.2f}" for a in sorted(tags, key=lambda a: -weights[a]) if weights[a] >= MIN_WEIGHT]
        for weights in answer_weights(tree, votes_BA).tolist()
    ]


def _class_tags(group: ConditionGroup, one_hot_BK: Tensor) -> list[list[str]]:
    names = group.labels or tuple(f"class {k}" for k in range(group.size))
    return [[_plain(names[k])] for k in one_hot_BK.nan_to_num(0).argmax(dim=1).tolist()]


@cache
def answer_tags(tree: DecisionTree) -> Mapping[int, str]:
    """Return the tag of each answer that has one, by the position of the answer."""
    tag_of = _gz2_tag if tree is GZ2 else _general_tag
    tags = [tag_of(task, answer) for task in tree.tasks for answer in task.answers]
    return {position: tag for position, tag in enumerate(tags) if tag}


def _gz2_tag(task: Task, answer: Answer) -> str:
    return _GZ2_TAGS.get(answer.number, "")


def _general_tag(task: Task, answer: Answer) -> str:
    """Return the tag "QUESTION ANSWER"; "" for an answer that denies something.

    For an answer "yes" it is the question, and for the first question the answer.
    """
    if answer.key in _DENIALS:
        return ""
    if answer.key == "yes":
        return _plain(task.key)
    return _plain(answer.key if not task.asked_after else f"{task.key} {answer.key}")


@cache
def _tree_of(group: ConditionGroup) -> DecisionTree:
    for tree in (GZ2, *TREES.values()):
        if group.labels == tree.answers or (not group.labels and group.size == len(GZ2.answers)):
            return tree
    what = "captions describe the votes of a Galaxy Zoo survey"
    raise ConfigError(what, "generate.conditions", "set generate.conditions=[class]")


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]+", " ", name).strip()
