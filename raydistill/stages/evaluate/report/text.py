"""Write an evaluation as text: its table, and whether the set beats its baselines."""

from __future__ import annotations

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

    It does if the 95 % interval of the difference on the same galaxies lies above 0.
    """
    labels = {"random_real": "random images", "class_mean": "class means"}
    found = {label: summary[name].get("difference") for name, label in labels.items() if name in summary}
    if not found:
        return "The distilled set is not compared: evaluate.baselines has neither random_real nor class_mean."
    if any(entry is None or entry["low"] is None for entry in found.values()):
        return "The distilled set cannot be compared with its baselines: that needs at least two networks of each."
    shown = {label: f"{label} ({format_change(entry)})" for label, entry in found.items()}
    level = "for other networks and galaxies, at 95 %."
    if not_beaten := [shown[label] for label, entry in found.items() if entry["low"] <= 0]:
        return f"The distilled set did NOT beat {' and '.join(not_beaten)} {level}"
    return f"The distilled set beats {' and '.join(shown.values())} {level}"


def format_change(entry: Mapping[str, Any]) -> str:
    """Return a difference with its 95 % interval."""
    return f"{entry['mean']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"
