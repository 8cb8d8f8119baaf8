"""An adaptation's chart allows missing figures; equal input gives equal bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.stages.adapt.report import BARS, draw_adaptation


def drawn(summary: dict[str, Any], bins: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    draw_adaptation(stream, summary, bins)
    return stream.getvalue()


def summary(training_sets: int = 1, ci95: float | None = 0.02) -> dict[str, Any]:
    figure = {key: {"mean": 0.5 + 0.08 * n, "ci95": ci95} for n, (key, _, _) in enumerate(BARS)}
    names = ("source", "source_synthetic", "distilled")[:training_sets]
    return {"source": "one", "target": "other", "training_sets": dict.fromkeys(names, figure)}


def reliability(count: int = 50) -> list[dict[str, Any]]:
    return [
        {"training_set": "" if key == "upper_bound" else "source", "method": key, "bin": n, "count": count if n else 0,
         "confidence": n / 15 if n else None, "accuracy": n / 20 if n else None}
        for key, _, _ in BARS[1:] for n in range(15)
    ]  # fmt: skip


@pytest.mark.parametrize("training_sets", [1, 3])
def test_chart_is_a_picture_that_grows_with_the_training_sets(training_sets: int) -> None:
    png = drawn(summary(training_sets), reliability())
    assert png == drawn(summary(training_sets), reliability())
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size[0] > 600 + 300 * training_sets


def test_intervals_and_small_bins_change_the_chart() -> None:
    whole = drawn(summary(), reliability())
    assert whole != drawn(summary(ci95=None), reliability())
    assert whole != drawn(summary(), reliability(count=9))
    empty = np.asarray(Image.open(io.BytesIO(drawn(summary(ci95=None), reliability(count=9)))))
    assert empty.std() > 0
