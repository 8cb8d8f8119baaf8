"""A search figure draws one line per trial; its labels do not overlap."""

import io

import pytest
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image

from raydistill.figures.drawing import VERMILION
from raydistill.stages.tune import report as search
from raydistill.stages.tune.report import parallel_coordinates

SPACE = {
    "student_steps": IntDistribution(1, 3),
    "image_step.lr": FloatDistribution(0.01, 0.1, log=True),
    "init": CategoricalDistribution([0, 1]),
    "schedule": CategoricalDistribution([0, 1]),
}
FIXED, WIDER = {"kind": "fixed", "max_start_epoch": 6}, {"kind": "clocked", "every": 20}
TRIALS = [
    ({"student_steps": 1, "image_step.lr": 0.01, "init": "real", "schedule": FIXED}, 0.4),
    ({"student_steps": 3, "image_step.lr": 0.1, "init": "noise", "schedule": WIDER}, 0.6),
    ({"student_steps": 2, "image_step.lr": 0.01**0.5 * 0.1**0.5, "init": "real", "schedule": FIXED}, 0.5),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(search, "save", lambda figure, path: figures.append(figure))
    return figures


def test_every_trial_is_a_line_through_its_values_to_its_accuracy(drawn: list[Figure]) -> None:
    parallel_coordinates(io.BytesIO(), TRIALS, SPACE, "title")
    lines = [line for line in drawn[0].axes[0].lines if len(line.get_xdata()) == 5]
    heights = [list(line.get_ydata()) for line in lines]
    assert heights[0] == [0, 0, 1, 1, 0]  # the worst is drawn first, the best on top
    assert heights[1][:2] == [0.5, pytest.approx(0.5)]  # half way on a logarithmic axis
    assert heights[2] == [1, 1, 0, 0, 1]
    assert [line.get_color() == VERMILION for line in lines] == [False, False, True]


def test_values_are_formatted_as_text_and_do_not_overlap(drawn: list[Figure]) -> None:
    parallel_coordinates(io.BytesIO(), TRIALS, SPACE)
    texts = [text for text in drawn[0].axes[0].texts if text.get_text()]
    written = {text.get_text() for text in texts}
    assert {"1", "2", "3", "0.02", "real", "noise", "fixed\nmax start epoch 6", "clocked\nevery 20"} <= written
    assert "1.5" not in written, "half a step"
    drawn[0].canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[n + 1 :])


def test_a_search_with_one_trial_has_a_figure() -> None:
    target = io.BytesIO()
    parallel_coordinates(target, TRIALS[:1], SPACE)
    assert Image.open(target).size[0] > 600
