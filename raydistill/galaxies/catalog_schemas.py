"""Catalog schemas: the columns of votes in Galaxy Zoo tables, or of labels.

`willett`          Table 5 of Willett et al. 2013:
                   `t01_…_a01_smooth_{fraction,weighted_fraction,debiased}`
`hart16`           Hart et al. 2016: same names, newer debiasing; some releases lack raw fractions
`kaggle`           The Galaxy Challenge: `GalaxyID, Class1.1 … Class11.6`, cumulative along the tree
`galaxy-datasets`  Galaxy Zoo 2 of galaxy-datasets: `smooth-or-featured-gz2_smooth_fraction`
`gz-…`             other campaigns in galaxy-datasets' names: see `campaigns.CAMPAIGNS`
`plain`            one label per object, no votes

To add a campaign, enter its tree in `trees` and the campaign in `campaigns`. For a schema of other
names, write one function that returns the `Question` of a task, and enter it in `LAYOUTS`,
`SCHEMAS` and `detect_schema`. The YAML key of the schema is `survey.dialect`.

References
----------
Willett et al. 2013, MNRAS 435, 2835, arXiv:1308.3496.
Hart et al. 2016, MNRAS 461, 3663, arXiv:1607.01019.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.campaigns import (
    CAMPAIGNS,
    COUNT,
    DEBIASED,
    FRACTION,
    Campaign,
    TaskColumns,
    choose_campaign,
    columns_of,
    find_campaigns,
    find_columns,
    usual_names,
)
from raydistill.galaxies.tables.ids import INDEX
from raydistill.galaxies.tree import DecisionTree, Task
from raydistill.galaxies.trees import GZ2
from raydistill.log import get_logger

log = get_logger(__name__)

Fractions = Literal["weighted", "raw", "debiased"]
SCHEMAS = ("willett", "hart16", "kaggle", *CAMPAIGNS, "plain")

# Possible names of each column, in order of preference; the case is ignored.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("object_id", "id_str", "dr7objid", "objid", "GalaxyID", "id", "iauname", "dr8_id"),
    "ra": ("ra",),
    "dec": ("dec",),
    "petro_r90": ("petro_r90", "petroR90_r"),
    "redshift": ("redshift",),
    "total_votes": ("total_votes",),
    "label": ("label", "class"),
    "confidence": ("confidence",),
    "split": (),  # only if the config names it
}

SUFFIXES = {"weighted": "_weighted_fraction", "raw": "_fraction", "debiased": "_debiased"}


@dataclass(frozen=True)
class Question:
    """The columns of one task's answers; empty if the schema lacks the task.

    Cumulative fractions and counts are divided by their sum over the question. `total` is the
    column of the votes on the question. `checked`: they must agree with the answers.
    """

    columns: tuple[str, ...]
    holds: Literal["conditional", "cumulative", "counts"] = "conditional"
    total: str | None = None
    checked: bool = False


def check_roles(columns: Mapping[str, str | None]) -> Mapping[str, str | None]:
    for role in columns:
        if role not in ALIASES:
            raise ConfigError(f"unknown key '{role}'", "columns", nearest(role, tuple(ALIASES)))
    return columns


def check_schema(schema: str) -> str:
    if schema not in SCHEMAS:
        raise ConfigError(f"unknown catalog schema '{schema}'", "dialect", nearest(schema, ("auto", *SCHEMAS)))
    return schema


def find_column(role: str, present: Sequence[str], overrides: Mapping[str, str | None], uri: str) -> str | None:
    """Return the column for `role`: the configured one, else the first alias, or None."""
    if role in overrides:
        requested = overrides[role]
        return None if requested is None else find_named(requested, present, uri, f"survey.columns.{role}")
    lowered = {name.lower(): name for name in reversed(present)}
    return next((lowered[alias.lower()] for alias in ALIASES[role] if alias.lower() in lowered), None)


def find_named(requested: str, present: Sequence[str], uri: str, key: str) -> str:
    """Return the column that `key` of the config names. CatalogError if there is none."""
    name = find_name(requested, present, uri)
    if name is None:
        raise missing_column(f"no column '{requested}'", requested, present, uri, f"correct {key}")
    return name


def find_name(requested: str, present: Sequence[str], uri: str) -> str | None:
    """Return this column, or the only one that differs in letter case, or None.

    CatalogError if several differ in letter case alone.
    """
    if requested in present:
        return requested
    if requested in INDEX:
        return next((name for name in INDEX if name in present), None)
    plain = requested.strip().lower().lstrip("#% ")  # a header may be a comment line
    similar = [name for name in present if name.lower() == plain]
    if len(similar) > 1:
        what = f"has the columns {', '.join(similar)}, and '{requested}' is none of them"
        raise CatalogError(what, uri, "write the column with its upper and lower case")
    return similar[0] if similar else None


def missing_column(what: str, requested: str, present: Sequence[str], uri: str, fix: str) -> CatalogError:
    """Return the error of a column that a table lacks."""
    hint = nearest(requested, tuple(filter(None, present)))
    if "" in present:
        hint += "; one column has no name, as an index: write its name into the header"
    return CatalogError(f"has {what}", uri, f"{fix}; {hint}")


def detect_schema(present: Sequence[str], overrides: Mapping[str, str | None], uri: str) -> str:
    """Return the schema that the columns match.

    Hart's tables have the names of Willett's, but some columns are missing.
    """
    if overrides.get("label") is not None:
        return "plain"
    if any(name.startswith(GZ2.answers[0]) for name in present):
        return "willett" if all(f"{stem}_fraction" in present for stem in GZ2.answers) else "hart16"
    if "Class1.1" in present:
        return "kaggle"
    has_labels = find_column("label", present, overrides, uri)
    if find_column("id", present, overrides, uri) is None:
        has_labels = None
    if has_labels and not any(name.startswith("smooth-or-featured-gz2_") for name in present):
        if campaigns := find_campaigns(present):
            what = "curate: column '%s' holds the labels; survey.dialect=%s takes classes from the table's votes"
            log.info(what, has_labels, campaigns[0].name)
        return "plain"
    if campaign := choose_campaign(present, uri):
        return campaign.name
    raise missing_column(
        "no columns of a known catalog schema",
        f"{GZ2.answers[0]}_weighted_fraction",
        present,
        uri,
        "set survey.dialect (docs/how-to/formats.md lists the schemas), or survey.columns.id and survey.columns.label",
    )


# ---- one function per schema: the columns of a task's answers ----


def _release_question(task: Task, fractions: Fractions, present: set[str]) -> Question:
    return Question(tuple(answer.column + SUFFIXES[fractions] for answer in task.answers))


def _hart16_question(task: Task, fractions: Fractions, present: set[str]) -> Question:
    question = _release_question(task, fractions, present)
    if fractions == "raw" and not present.issuperset(question.columns):
        return _release_question(task, "weighted", present)  # one question never mixes both kinds
    return question


def _kaggle_question(task: Task, fractions: Fractions, present: set[str]) -> Question:
    return Question(tuple(f"Class{task.number}.{i + 1}" for i in range(len(task.answers))), "cumulative")


LAYOUTS: Mapping[str, Callable[[Task, Fractions, set[str]], Question]] = {
    "willett": _release_question,
    "hart16": _hart16_question,
    "kaggle": _kaggle_question,
}


def tree_of(schema: str) -> DecisionTree:
    """Return the decision tree whose votes a schema holds."""
    return CAMPAIGNS[schema].tree if schema in CAMPAIGNS else GZ2


def list_questions(schema: str, fractions: Fractions, present: Sequence[str], uri: str) -> list[Question]:
    """Return the columns of each task of the schema's tree."""
    if fractions not in SUFFIXES:
        raise ConfigError(f"unknown fractions '{fractions}'", "fractions", nearest(fractions, tuple(SUFFIXES)))
    others = [kind for kind in SUFFIXES if kind != fractions]
    fix = f"correct survey.dialect (now {schema}) or survey.fractions ({' or '.join(others)})"
    if schema in CAMPAIGNS:
        questions = _campaign_questions(CAMPAIGNS[schema], fractions, present, uri)
    elif schema == "kaggle" and fractions == "debiased":
        raise _no_debiased(schema, uri)
    else:
        questions = [LAYOUTS[schema](task, fractions, set(present)) for task in GZ2.tasks]
    for name in (name for question in questions for name in question.columns):
        if name not in present:
            raise missing_column(f"no column '{name}'", name, present, uri, fix)
    return questions


def _no_debiased(schema: str, uri: str) -> CatalogError:
    return CatalogError(f"catalog schema '{schema}' has no debiased fractions", uri, "set survey.fractions to weighted")


def _campaign_questions(campaign: Campaign, fractions: Fractions, present: Sequence[str], uri: str) -> list[Question]:
    """Return the columns of each task; of the first one even if the table lacks them."""
    columns = columns_of(campaign, present)
    if fractions == "debiased" and not any(any(task.answers[DEBIASED]) for task in columns):
        raise _no_debiased(campaign.name, uri)
    kinds = (DEBIASED,) if fractions == "debiased" else (FRACTION, COUNT)
    checked = campaign.tree != GZ2
    return [_campaign_question(task, kinds, checked, required=not i) for i, task in enumerate(columns)]


def _campaign_question(task: TaskColumns, kinds: tuple[str, ...], checked: bool, required: bool) -> Question:
    """Return the columns of the first kind that the table has for every answer."""
    some = [kind for kind in kinds if any(task.answers[kind])]
    if not some and not required:
        return Question(())
    kind = next(filter(task.has_all, some), (some or list(kinds))[0])
    names = (present or usual for present, usual in zip(task.answers[kind], task.expected[kind], strict=True))
    holds: Literal["counts", "conditional"] = "counts" if kind == COUNT else "conditional"
    return Question(tuple(names), holds, task.total, checked and kind != DEBIASED)


def _usual_names() -> dict[str, str]:
    """Return the columns of all schemas by their names in lower case."""
    names = [answer.column + suffix for task in GZ2.tasks for answer in task.answers for suffix in SUFFIXES.values()]
    names += [name for task in GZ2.tasks for name in _kaggle_question(task, "weighted", set()).columns]
    for task in find_columns(GZ2, "gz2", ()):
        names += [*task.expected[COUNT], *task.expected[FRACTION]]
    return {name.lower(): name for name in names}


_USUAL_NAMES = _usual_names()
# Names of columns in lower case, by which a header is known.
KNOWN_NAMES = (
    frozenset(_USUAL_NAMES)
    | {name.lower() for name in usual_names()}
    | {alias.lower() for aliases in ALIASES.values() for alias in aliases}
)


def to_canonical(present: Sequence[str]) -> dict[str, str]:
    """Return the columns by their schema names, where only letter case differs.

    Other columns, and names that would then occur twice, stay.
    """
    counts = Counter(name.lower() for name in present)
    return {_USUAL_NAMES.get(name.lower(), name) if counts[name.lower()] == 1 else name: name for name in present}
