"""Figures of a comparison show every method, and equal input gives equal bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from raydistill.stages.augment import report as augmentation
from raydistill.stages.augment.report import few_shot_curves, step_curves

METHODS = (
    ("real", ""),
    ("flips", ""),
    ("real_synthetic", "unet"),
    ("real_synthetic", "(chosen)"),
    ("generator_labels", ""),
)


def entry(number: int, method: str, source: str, shots: int | None) -> dict[str, Any]:
    mean = 0.4 + 0.05 * number
    interval = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}
    named = {"method": method, "source": source, "shots": shots}
    return {**named, "balanced_accuracy": interval, "macro_f1": interval}


SUMMARY: dict[str, Any] = {
    "survey": "tiny", "simulated": True, "recorded": [100, 1000],
    "baselines": [{"shots": 10}, {"shots": None}],
    "results": [entry(n, *name, shots) for shots in (10, None) for n, name in enumerate(METHODS)],
}  # fmt: skip
ROWS = [
    {"method": c["method"], "source": c["source"], "shots": c["shots"], "step": step, "balanced_accuracy": 0.5, "macro_f1": 0.4}
    for c in SUMMARY["results"]
    for step in (100, 1000)
]  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(augmentation, "save", lambda figure, path: figures.append(figure))
    return figures


def test_few_shot_curves_have_a_point_per_number_of_galaxies(drawn: list[Figure]) -> None:
    few_shot_curves("x.png", SUMMARY)
    for axes in drawn[0].axes:
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        assert set(lines) == {"survey only", "flips", "survey and synthetic (unet)", "generator labels"}
        assert {len(np.atleast_1d(line.get_xdata())) for line in lines.values()} == {2}
        assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "all"]


def test_step_curves_have_a_point_per_recorded_step(drawn: list[Figure]) -> None:
    step_curves("x.png", SUMMARY, ROWS, 10)
    for axes, value in zip(drawn[0].axes, (0.5, 0.4), strict=True):
        assert len(axes.get_lines()) == 4
        for line in axes.get_lines():
            assert list(line.get_xdata()) == [100, 1000]
            assert list(line.get_ydata()) == [value, value]


def test_equal_input_gives_equal_bytes() -> None:
    targets = io.BytesIO(), io.BytesIO()
    for target in targets:
        few_shot_curves(target, SUMMARY)
    assert targets[0].getvalue() == targets[1].getvalue()
    assert Image.open(targets[0]).size[0] > 800
