"""Write an evaluation as text: its table, and whether the set beats its baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from textwrap import fill
from typing import Any

from raydistill.text import WIDTH, shown_name, text_table

HEAD = ("trained on", "balanced accuracy ± 95 %", "accuracy ± 95 %")


def evaluation_text(summary: Mapping[str, Any], title: str) -> str:
    """Return the table and the verdict of the contents of `evaluation.json`."""
    return f"{text_table(title, [HEAD, *accuracy_table(summary)])}\n{fill(verdict(summary), WIDTH)}"


def html_of(summary: Mapping[str, Any]) -> str:
    """Return the table and the verdict for a notebook."""
    head, *rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in [HEAD, *accuracy_table(summary)])
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{escape(verdict(summary))}</p>"


def accuracy_table(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (training set, balanced accuracy, accuracy) as text."""
    return [
        (shown_name(name), format_figure(entry["balanced_accuracy"]), format_figure(entry["accuracy"]))
        for name, entry in summary.items()
    ]


def format_figure(figure: Mapping[str, Any] | None) -> str:
    """Return a mean with half the width of its interval; "-" for an unknown one."""
    if figure is None or figure["mean"] is None:
        return "-"
    return f"{figure['mean']:.3f}" + ("" if figure["ci95"] is None else f" ± {figure['ci95']:.3f}")


def verdict(summary: Mapping[str, Any]) -> str:
    """Return, as a sentence, whether the distilled set beats its baselines.

    The margin is two standard errors.
    """
    labels = {"distilled": "the distilled set", "random_real": "random images", "class_mean": "class means"}
    baselines = {label: summary[name]["balanced_accuracy"] for name, label in labels.items() if name in summary}
    ours = baselines.pop(labels["distilled"], None)
    compared = [ours, *baselines.values()]
    if not baselines or any(row is None or None in (row["mean"], row["std"]) or row["n"] < 1 for row in compared):
        return "The distilled set cannot be compared with its baselines: that needs at least two networks of each."
    not_beaten = []
    for label, theirs in baselines.items():
        error = math.hypot(*(figure["std"] / math.sqrt(figure["n"]) for figure in (ours, theirs)))
        if ours["mean"] - theirs["mean"] <= 2 * error:
            not_beaten.append(label)
    if not_beaten:
        return f"The distilled set did NOT beat {' and '.join(not_beaten)} by more than two standard errors."
    return f"The distilled set beats {' and '.join(baselines)} by more than two standard errors."
