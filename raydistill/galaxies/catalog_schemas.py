"""Catalog schemas: in which columns five kinds of Galaxy Zoo 2 tables hold votes or labels.

`willett`          Table 5 of Willett et al. 2013: `t01_…_a01_smooth_{fraction,weighted_fraction,debiased}`
`hart16`           Hart et al. 2016: the same names, newer debiasing; some releases lack raw fractions
`kaggle`           The Galaxy Challenge: `GalaxyID, Class1.1 … Class11.6`, cumulative along the tree
`galaxy-datasets`  Hugging Face `mwalmsley/gz2`: `smooth-or-featured-gz2_smooth_fraction`; no task 8
`plain`            one label per object, no votes

To add a schema, write one function that returns the `Question` of a task, and enter it in
`LAYOUTS`, `SCHEMAS` and `detect_schema`. The YAML key of the schema is `survey.dialect`.

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
from raydistill.galaxies.gz2 import GZ2
from raydistill.galaxies.tree import Task

Fractions = Literal["weighted", "raw", "debiased"]
SCHEMAS = ("willett", "hart16", "kaggle", "galaxy-datasets", "plain")

# Possible names of each column, in order of preference; the case is ignored.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("object_id", "id_str", "dr7objid", "objid", "GalaxyID", "id"),
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

    Cumulative fractions and counts are divided by their sum over the question.
    """

    columns: tuple[str, ...]
    holds: Literal["conditional", "cumulative", "counts"] = "conditional"


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
    """Return the column for `role`: the configured one, or the first alias in the table, or None."""
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
    """Return the column of this name, or the only one that differs in upper and lower case, or None."""
    if requested in present:
        return requested
    plain = requested.strip().lower().lstrip("#% ")  # a header may be a comment line
    similar = [name for name in present if name.lower() == plain]
    if len(similar) > 1:
        what = f"has the columns {', '.join(similar)}, and '{requested}' is none of them"
        raise CatalogError(what, uri, "write the column with its upper and lower case")
    return similar[0] if similar else None


def missing_column(what: str, requested: str, present: Sequence[str], uri: str, fix: str) -> CatalogError:
    return CatalogError(f"has {what}", uri, f"{fix}; {nearest(requested, tuple(present))}")


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
    if any(name.startswith("smooth-or-featured-gz2_") for name in present):
        return "galaxy-datasets"
    if find_column("label", present, overrides, uri) and find_column("id", present, overrides, uri):
        return "plain"
    raise missing_column(
        "no columns of a known catalog schema",
        f"{GZ2.answers[0]}_weighted_fraction",
        present,
        uri,
        f"set survey.dialect to one of {', '.join(SCHEMAS)}, or set survey.columns.id and survey.columns.label",
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


# Names in galaxy-datasets (label_metadata.gz2_ortho_pairs), with the answers in the order of GZ2.tasks.
_GALAXY_DATASETS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    1: ("smooth-or-featured", ("smooth", "featured-or-disk", "artifact")),
    2: ("disk-edge-on", ("yes", "no")),
    3: ("bar", ("yes", "no")),
    4: ("has-spiral-arms", ("yes", "no")),
    5: ("bulge-size", ("no", "just-noticeable", "obvious", "dominant")),
    6: ("something-odd", ("yes", "no")),
    7: ("how-rounded", ("round", "in-between", "cigar")),
    8: ("odd-feature", ("ring", "lens-or-arc", "disturbed", "irregular", "other", "merger", "dust-lane")),
    9: ("bulge-shape", ("round", "boxy", "no-bulge")),
    10: ("spiral-winding", ("tight", "medium", "loose")),
    11: ("spiral-arm-count", ("1", "2", "3", "4", "more-than-4", "cant-tell")),
}


def _galaxy_datasets_question(task: Task, fractions: Fractions, present: set[str]) -> Question:
    """Return the fractions, or the counts for older catalogues, which hold only counts."""
    key, answers = _GALAXY_DATASETS[task.number]
    counts = tuple(f"{key}-gz2_{answer}" for answer in answers)
    as_fractions = tuple(f"{name}_fraction" for name in counts)
    if present.isdisjoint(as_fractions) and present.issuperset(counts):
        return Question(counts, "counts")
    if task.number == 8 and present.isdisjoint((*counts, *as_fractions)):
        return Question(())
    return Question(as_fractions)


LAYOUTS: Mapping[str, Callable[[Task, Fractions, set[str]], Question]] = {
    "willett": _release_question,
    "hart16": _hart16_question,
    "kaggle": _kaggle_question,
    "galaxy-datasets": _galaxy_datasets_question,
}


def list_questions(schema: str, fractions: Fractions, present: Sequence[str], uri: str) -> list[Question]:
    if fractions not in SUFFIXES:
        raise ConfigError(f"unknown fractions '{fractions}'", "fractions", nearest(fractions, tuple(SUFFIXES)))
    if schema in ("kaggle", "galaxy-datasets") and fractions == "debiased":
        raise CatalogError(
            f"catalog schema '{schema}' has no debiased fractions", uri, "set survey.fractions to weighted"
        )
    questions = [LAYOUTS[schema](task, fractions, set(present)) for task in GZ2.tasks]
    for name in (name for question in questions for name in question.columns):
        if name not in present:
            others = [kind for kind in SUFFIXES if kind != fractions]
            fix = f"correct survey.dialect (now {schema}) or survey.fractions ({' or '.join(others)})"
            raise missing_column(f"no column '{name}'", name, present, uri, fix)
    return questions


def _usual_names() -> dict[str, str]:
    """Return the columns of all schemas by their names in lower case."""
    names = [answer.column + suffix for task in GZ2.tasks for answer in task.answers for suffix in SUFFIXES.values()]
    names += [name for task in GZ2.tasks for name in _kaggle_question(task, "weighted", set()).columns]
    for key, answers in _GALAXY_DATASETS.values():
        counts = [f"{key}-gz2_{answer}" for answer in answers]
        names += [*counts, *(f"{name}_fraction" for name in counts), f"{key}-gz2_total-votes"]
    return {name.lower(): name for name in names}


_USUAL_NAMES = _usual_names()
# Names of columns in lower case, by which a header is known.
KNOWN_NAMES = frozenset(_USUAL_NAMES) | {alias.lower() for aliases in ALIASES.values() for alias in aliases}


def to_canonical(present: Sequence[str]) -> dict[str, str]:
    """Return the columns by the names of their schema, where only upper and lower case differ.

    Other columns, and names that would then occur twice, stay.
    """
    counts = Counter(name.lower() for name in present)
    return {_USUAL_NAMES.get(name.lower(), name) if counts[name.lower()] == 1 else name: name for name in present}
