"""Figures have exact pixels, equal bytes, and correctly placed numbers and marks."""

import io
import subprocess
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import raydistill.stages.experts.stage as experts_module
from raydistill.errors import RaydistillError
from raydistill.figures import image_grids
from raydistill.figures.image_grids import atlas, displayable, image_grid
from raydistill.stages.distill import figures as distill_figures
from raydistill.stages.distill.figures import training_curves
from raydistill.stages.evaluate.report import charts
from raydistill.stages.evaluate.report.charts import AccuracyRow, accuracy_table, confusion_matrix, network_matrix
from raydistill.stages.experts.stage import expert_curves

NAMES = ["round", "edge_on"]
COUNTS = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
HISTORY = {
    "iteration": np.arange(0, 100, 10),
    "matching_loss": np.linspace(1, 0.5, 10),
    "next_epoch_loss": np.where(np.arange(10) % 3 == 0, 0.9, np.nan),
    "max_start_epoch": np.array([2, 2, 2, 3, 3, 3, 3, 4, 4, 4]),
    "student_lr": np.full(10, 0.02),
    "validation_accuracy": np.array([0.3, *[np.nan] * 8, 0.5]),
}
ROWS = [AccuracyRow("distilled", 0.5, 0.02), AccuracyRow("random_real", 0.3, 0.05), AccuracyRow("experts", 0.7)]
NETWORK_ROWS = [
    AccuracyRow("distilled", 0.5, 0.02, "convnet-d3-w8"),
    AccuracyRow("distilled", 0.3, network="vgg11"),
    AccuracyRow("random_real", 0.4, 0.05, "convnet-d3-w8"),
    AccuracyRow("random_real", 0.35, 0.01, "vgg11"),
    AccuracyRow("experts", 0.7, 0.03, "convnet-d3-w8"),
]


def random_images(num: int, size: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def draw_grid(target: io.BytesIO) -> None:
    image_grid(random_images(4), np.array([0, 1, 0, 1]), NAMES, target)


def test_dollars_in_a_name_are_no_formula() -> None:
    drawn = io.BytesIO()
    image_grid(random_images(2), np.array([0, 1]), ["$\\frac$", "${HOME}$"], drawn)
    assert drawn.getvalue().startswith(b"\x89PNG")


def draw_atlas(target: io.BytesIO) -> None:
    pair = [random_images(2), random_images(2, seed=1)]
    atlas(target, NAMES, pair, random_images(2), pair, [row[:1] for row in pair], "a caption", True)


def draw_confusion(target: io.BytesIO) -> None:
    confusion_matrix(target, COUNTS, ["a", "b", "c"], "title")


def draw_training(target: io.BytesIO) -> None:
    training_curves(target, HISTORY)


def draw_accuracy(target: io.BytesIO) -> None:
    accuracy_table(target, ROWS, "title", chance=0.2)


def draw_networks(target: io.BytesIO) -> None:
    network_matrix(target, NETWORK_ROWS, "title", chance=0.2)


def draw_experts(target: io.BytesIO) -> None:
    expert_curves(target, [[0.2, 0.5], [0.4, 0.7]], "title")


ALL = [draw_grid, draw_atlas, draw_confusion, draw_training, draw_accuracy, draw_networks, draw_experts]


def picture(draw: Callable[[io.BytesIO], None]) -> Image.Image:
    target = io.BytesIO()
    draw(target)
    return Image.open(target)


def find(tile: np.ndarray, page: np.ndarray) -> list[tuple[int, int]]:
    """Return the top left corners (row, column) of exact copies of `tile` in `page`."""
    height, width = tile.shape[:2]
    starts = np.argwhere((page == tile[0, 0]).all(axis=-1))
    return [(y, x) for y, x in starts.tolist() if np.array_equal(page[y : y + height, x : x + width], tile)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are passed to `save`, which writes nothing."""
    figures: list[Figure] = []
    for module in (charts, experts_module, distill_figures, image_grids):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    return figures


def texts(figure: Figure) -> list[str]:
    written = [text.get_text() for text in figure.texts]
    return written + [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("draw", ALL)
def test_bytes_do_not_depend_on_the_users_settings(draw: Callable[[io.BytesIO], None]) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    draw(first)
    with matplotlib.rc_context({"font.size": 20, "figure.dpi": 30, "text.color": "red", "axes.spines.top": True}):
        draw(second)
    assert first.getvalue() == second.getvalue()
    assert set(Image.open(first).info) <= {"dpi"}


def test_drawing_needs_neither_pyplot_nor_torch_nor_ray() -> None:
    code = (
        "import sys, io, numpy as np\n"
        "from raydistill.stages.distill import figures\n"
        "from raydistill.stages.evaluate.report import charts\n"
        "charts.accuracy_table(io.BytesIO(), [charts.AccuracyRow('a', .5)])\n"
        "print([m for m in ('matplotlib.pyplot', 'torch', 'ray', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_pixel_of_the_grid_is_a_square_of_the_image() -> None:
    images, labels, scale = random_images(5), np.array([1, 0, 1, 0, 1]), 7
    target = io.BytesIO()
    image_grid(images, labels, NAMES, target, scale=scale)
    page = np.asarray(Image.open(target).convert("RGB"))
    corners = []
    for image in images:
        (corner,) = find(image.repeat(scale, axis=0).repeat(scale, axis=1), page)
        corners.append(corner)
    rows, columns = np.array(corners).T
    assert rows[1] == rows[3] < rows[0] == rows[2] == rows[4]
    assert columns[1] == columns[0] < columns[3] == columns[2] < columns[4]


def test_a_class_with_many_images_continues_on_the_next_line() -> None:
    images = random_images(5)
    target = io.BytesIO()
    image_grid(images, np.zeros(5, dtype=int), ["one"], target, scale=5, columns=2)
    page = np.asarray(Image.open(target).convert("RGB"))
    corners = [find(image.repeat(5, axis=0).repeat(5, axis=1), page)[0] for image in images]
    assert [len({c[i] for c in corners}) for i in (0, 1)] == [3, 2]


@pytest.mark.parametrize(
    ("classes", "each", "message"),
    [(500, 2, "the first 120 of 500 classes"), (70, 30, "the first images of each class")],
)
def test_a_grid_of_very_many_images_shows_some(drawn: list[Figure], classes: int, each: int, message: str) -> None:
    labels = np.repeat(np.arange(classes), each)
    image_grid(random_images(len(labels)), labels, [f"c{k}" for k in range(classes)], io.BytesIO(), scale=1)
    assert message in " ".join(text.get_text() for text in drawn[0].texts)
    assert drawn[0].get_size_inches()[1] * drawn[0].dpi <= 120 * 12 + 100


def test_uint8_and_float_give_the_same_pixels() -> None:
    images = random_images(2)
    np.testing.assert_array_equal(displayable(images / 255.0), images)
    wild = np.full((1, 2, 2, 3), 1.4)
    wild[0, 0] = -0.3
    np.testing.assert_array_equal(displayable(wild)[0, :, 0, 0], [0, 255])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 4, 4)), "colour last"),
        (random_images(1).astype(float), "divide by 255"),
        (np.where(np.arange(48).reshape(1, 4, 4, 3) == 5, np.nan, 0.0), "NaN or infinity"),
    ],
)
def test_images_that_cannot_be_shown_are_rejected(images: np.ndarray, message: str) -> None:
    with pytest.raises(RaydistillError, match=message):
        displayable(images)


def test_the_grid_rejects_labels_that_do_not_fit() -> None:
    with pytest.raises(RaydistillError, match="4 images but 2 labels"):
        image_grid(random_images(4), np.array([0, 1]), NAMES, io.BytesIO())
    with pytest.raises(RaydistillError, match="labels run from 0 to 2"):
        image_grid(random_images(2), np.array([0, 2]), NAMES, io.BytesIO())


def test_the_atlas_shows_each_group_in_its_class_row() -> None:
    groups = [random_images(2, seed=seed) for seed in range(4)]
    split = [[images[:1], images[1:]] for images in groups]
    target = io.BytesIO()
    atlas(target, NAMES, split[0], groups[1], split[2], split[3], "", True, scale=6)
    page = np.asarray(Image.open(target).convert("RGB"))
    corners = np.array(
        [[find(image.repeat(6, axis=0).repeat(6, axis=1), page)[0] for image in images] for images in groups]
    )
    assert (corners[:, 0, 0] == corners[0, 0, 0]).all()
    assert (corners[:, 1, 0] > corners[0, 0, 0]).all()
    assert (np.diff(corners[:, 0, 1]) > 0).all()


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_galaxies_are_never_called_real(simulated: bool, drawn: list[Figure]) -> None:
    pair = [random_images(1), random_images(1)]
    atlas(io.BytesIO(), NAMES, pair, random_images(2), pair, pair, "a caption", simulated)
    shown = " ".join(texts(drawn[0])).replace("\n", " ")
    assert ("real, most confident" in shown) == (not simulated)
    assert ("simulated, most confident" in shown) == simulated
    assert "a caption" in shown


def test_a_class_without_real_galaxies_says_so(drawn: list[Figure]) -> None:
    pair = [random_images(1), random_images(1)]
    means = random_images(2) / 255.0
    means[1] = np.nan
    atlas(io.BytesIO(), NAMES, pair, means, [pair[0], pair[0][:0]], pair, "", True)
    assert texts(drawn[0]).count("none") == 2


def test_an_atlas_of_nine_classes_fits_a_screen(drawn: list[Figure]) -> None:
    rows = [random_images(1, 32)] * 9
    atlas(io.BytesIO(), ["a"] * 9, rows, random_images(9, 32), [random_images(4, 32)] * 9, rows, "", True)
    width, height = drawn[0].get_size_inches() * drawn[0].dpi
    assert width < 1600
    assert height < 1080


def test_an_atlas_needs_images_of_one_size() -> None:
    pair = [random_images(1), random_images(1)]
    with pytest.raises(RaydistillError, match="4 x 4 and 8 x 8"):
        atlas(io.BytesIO(), NAMES, pair, random_images(2, size=8), pair, pair, "", True)


def test_confusion_writes_completeness_counts_purity_and_both_accuracies(drawn: list[Figure]) -> None:
    confusion_matrix(io.BytesIO(), COUNTS, ["a", "b", "c"], "title")
    axes = drawn[0].axes[0]
    written = [text.get_text() for text in axes.texts]
    assert written[:4] == ["0.75", "6", "0.25", "2"]
    assert written[-4:] == ["purity", "0.86", "0.60", "none"]
    # 9 of 12 right; completeness 6/8 and 3/4, the empty class counts in neither.
    assert axes.get_title() == "title\naccuracy 75.0 %, balanced 75.0 %, 12 predictions"
    np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan)[:2].sum(axis=1), 1)


def test_a_confusion_matrix_of_many_classes_has_no_text(drawn: list[Figure]) -> None:
    confusion_matrix(io.BytesIO(), np.eye(400, dtype=int), [f"class {k}" for k in range(400)])
    (figure,) = drawn
    assert max(figure.get_size_inches()) < 30
    assert "class 7" not in {text.get_text() for text in figure.findobj(Text)}


def test_training_marks_where_the_cap_advances(drawn: list[Figure]) -> None:
    training_curves(io.BytesIO(), HISTORY)
    panels = drawn[0].axes
    assert len(panels) == 4
    for axes in panels:
        verticals = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
        assert verticals == [30, 70]


def test_training_shows_the_start_epochs_that_were_drawn(drawn: list[Figure]) -> None:
    starts = np.array([np.nan, *range(8), np.nan])
    training_curves(io.BytesIO(), {**HISTORY, "max_start_epoch": np.full(10, 11.0), "start_epoch": starts})
    (axes,) = [panel for panel in drawn[0].axes if panel.get_ylabel() == "start epoch"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), range(8))


def test_training_draws_only_what_was_measured(drawn: list[Figure]) -> None:
    training_curves(io.BytesIO(), {key: HISTORY[key] for key in ("iteration", "validation_accuracy")})
    (axes,) = drawn[0].axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0, 90])
    assert texts(drawn[0]) == ["best 50.0 %"]


def test_a_constant_start_epoch_has_no_panel(drawn: list[Figure]) -> None:
    training_curves(io.BytesIO(), {**HISTORY, "max_start_epoch": np.array([np.nan, *[11.0] * 9])})
    assert [axes.get_ylabel() for axes in drawn[0].axes] == [
        "matching loss",
        "student\nlearning rate",
        "balanced accuracy\non validation",
    ]


def test_training_draws_a_learning_rate_per_step_and_skips_unmeasured_curves(drawn: list[Figure]) -> None:
    rates = np.stack([HISTORY["student_lr"], HISTORY["student_lr"] * 2], axis=1)
    training_curves(io.BytesIO(), {**HISTORY, "student_lr": rates, "next_epoch_loss": np.full(10, np.nan)})
    heights = {line.get_ydata()[0] for line in drawn[0].axes[2].lines}
    assert {0.02, 0.04} <= heights


def test_accuracies_keep_their_order_and_show_intervals(drawn: list[Figure]) -> None:
    accuracy_table(io.BytesIO(), ROWS, chance=0.2)
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["distilled", "random images", "experts"]
    spans = [segment[:, 0].tolist() for bars in axes.collections for segment in bars.get_segments()]
    np.testing.assert_allclose(spans, [[0.48, 0.52], [0.25, 0.35]])
    assert {"50.0 ± 2.0", "30.0 ± 5.0", "70.0", "chance"} <= set(texts(drawn[0]))


def test_each_network_has_its_own_height_and_one_legend_entry(drawn: list[Figure]) -> None:
    rows = [AccuracyRow(subject, 0.4, 0.1, net) for subject in ("distilled", "k_center") for net in ("convnet", "vgg")]
    accuracy_table(io.BytesIO(), [*rows, AccuracyRow("experts", float("nan"), network="vgg")])
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["convnet", "vgg"]
    heights = [line.get_ydata()[0] for line in drawn[0].axes[0].lines]
    assert len(set(heights)) == 4
    assert "not measured" in texts(drawn[0])


def test_the_matrix_has_a_line_per_training_set_and_a_column_per_network(drawn: list[Figure]) -> None:
    network_matrix(io.BytesIO(), NETWORK_ROWS, chance=0.2)
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["distilled", "random images", "experts"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["convnet\nd3-w8", "vgg11"]
    image = axes.images[0]
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), [[0.5, 0.3], [0.4, 0.35], [0.7, np.nan]])
    assert image.norm.vmin == 0.2, "chance is white"
    cells = {(round(t.get_position()[0]), round(t.get_position()[1]), t.get_text()) for t in axes.texts}
    assert cells == {
        (0, 0, "50.0"), (0, 0, "± 2.0"), (1, 0, "30.0"), (0, 1, "40.0"), (0, 1, "± 5.0"), (1, 1, "35.0"), (1, 1, "± 1.0"),
        (0, 2, "70.0"), (0, 2, "± 3.0"),
    }  # fmt: skip


def test_the_best_training_set_on_each_network_is_bold(drawn: list[Figure]) -> None:
    network_matrix(io.BytesIO(), NETWORK_ROWS)
    bold = {text.get_text() for text in drawn[0].axes[0].texts if text.get_fontweight() == "bold"}
    assert bold == {"50.0", "35.0"}, "experts were trained on the whole survey"


def test_a_matrix_of_references_alone_has_no_best(drawn: list[Figure]) -> None:
    network_matrix(io.BytesIO(), NETWORK_ROWS[-1:])
    assert not [text for text in drawn[0].axes[0].texts if text.get_fontweight() == "bold"]


def test_each_expert_has_a_curve_and_the_mean_is_drawn_too(drawn: list[Figure]) -> None:
    expert_curves(io.BytesIO(), [[0.2, 0.5], [0.4, 0.7]])
    lines = [line.get_xydata().tolist() for line in drawn[0].axes[0].lines if len(line.get_xydata())]
    assert np.allclose(lines, [[[0, 0.2], [1, 0.5]], [[0, 0.4], [1, 0.7]], [[0, 0.3], [1, 0.6]]])
