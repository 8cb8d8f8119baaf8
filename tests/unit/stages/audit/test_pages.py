"""The audit's pages are complete in one file, and safe from any name.

They are readable without sight of the pictures.
"""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from raydistill.morphology.pictures import QUANTITIES
from raydistill.stages.audit.artifact import AuditSummary
from raydistill.stages.audit.metrics.classes import wrong_labels
from raydistill.stages.audit.metrics.comparison import FeatureArray, Features, compare
from raydistill.stages.audit.metrics.realism import Seen, consistency
from raydistill.stages.audit.pages import quiz_page
from raydistill.stages.audit.report import (
    METRICS,
    RANGE_WIDTH,
    grid_row,
    group_findings,
    histogram,
    pair,
    report_page,
    value_range,
)
from raydistill.statistics.copies import closest_copies, isolation, twins
from raydistill.statistics.memorisation import RealNeighbours, memorisation, two_generators
from raydistill.statistics.testing import Finding, combine
from raydistill.text import format_number
from tests.words import words_of

NAMES = ("round", "<b>odd</b> & 'quoted'")
VOID = {"meta", "img", "br", "path", "rect", "line", "circle", "col", "link", "input"}


class Page(HTMLParser):
    """Collect a page's elements; fail on an end tag that closes another element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)


def features(seed: int, shift: float) -> Features:
    rng = np.random.default_rng(seed)
    spaces = {
        "scattering": FeatureArray(rng.normal(shift, size=(40, 4))),
        "morphology": FeatureArray(rng.normal(shift, size=(40, 9)), QUANTITIES),
    }
    return Features(spaces, rng.integers(2, size=40), NAMES)


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    """Return findings of every family for three samples; the synthetic one is shifted."""
    synthetic, held_out, training = (features(seed, shift) for seed, shift in enumerate((1.0, 0.0, 0.0)))
    distances = np.random.default_rng(0).uniform(size=(40, 80))
    seen = [
        Seen(
            np.eye(2)[block.labels_N],
            block.spaces["morphology"].values_ND,
            block.labels_N,
            block.spaces["morphology"].values_ND,
        )
        for block in (synthetic, held_out, training)
    ]
    return combine(
        compare(held_out, synthetic, training),
        memorisation({"pixels": RealNeighbours.of(distances, 40)}),
        wrong_labels(held_out, synthetic, training),
        two_generators(RealNeighbours.of(np.concatenate([distances, distances]), 40), 40),
        consistency(*seen, class_names=NAMES, answers=QUANTITIES),  # type: ignore[misc]
        [closest_copies(isolation(distances[:, :40]), isolation(distances[:, 40:]), 0)],
        twins(np.concatenate([distances, distances]), 0, 99),
    )


def summary_of(survey: str = "gz2 <script>alert(1)</script>", simulated: bool = False, other: str = "") -> AuditSummary:
    return AuditSummary(
        "synthetic", "f" * 64, survey, simulated, 8, 40, 60, 50, 70, 90, ("scattering", "morphology"), True, 99, 0, other
    )  # fmt: skip


def write_report(findings: list[Finding], summary: AuditSummary | None = None) -> str:
    summary = summary or summary_of()
    values = features(0, 0.0).spaces["morphology"].values_ND
    quantities = {name: (values[:, n], values[::2, n]) for n, name in enumerate(QUANTITIES)}
    words = summary.words
    grid = [grid_row(NAMES[0], pixels(3), pixels(2), words), grid_row(NAMES[1], pixels(0), pixels(2), words)]
    return report_page(summary, findings, grid, [pair(pixels(3), ["s", "t", "h"], [0.1, 0.2], words)], quantities)


@pytest.fixture(scope="module")
def report(findings: list[Finding]) -> str:
    return write_report(findings)


def check_offline(page: Page, text: str) -> None:
    """Check that the page loads nothing, and that its own policy forbids it."""
    (policy,) = [tag["content"] or "" for tag in page.all("meta") if tag.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert all((tag["src"] or "").startswith("data:image/png;base64,") for tag in page.all("img") if "src" in tag)
    assert not page.all("link")
    assert all("src" not in tag for tag in page.all("script"))
    assert {tag["href"] for tag in page.all("a") if not (tag["href"] or "").startswith("#")} <= {
        "quiz.html",
        "report.html",
    }
    assert not re.search(r"url\(|@import|https?://", text)


def test_report_is_one_file_with_text_for_every_picture(report: str) -> None:
    page = Page(report)
    check_offline(page, report)
    assert len(page.all("img")) == 3 + 2 + 2 + 3
    assert all(tag["alt"] for tag in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(tag["href"] or "")[1:] for tag in page.all("a") if (tag["href"] or "").startswith("#")} <= set(ids)
    assert all(tag.get("aria-hidden") == "true" or tag.get("aria-label") for tag in page.all("svg"))
    assert page.all("html") == [{"lang": "en"}]


def test_report_names_every_metric_and_marks_what_differs(findings: list[Finding], report: str) -> None:
    rows = [row for group in group_findings(findings) for row in group.rows]
    assert sorted(map(id, findings)) == sorted(id(row.finding) for row in rows), "each metric stands in one table"
    assert {f.metric for f in findings} == set(METRICS)
    differing = sum(f.significant for f in findings)
    assert 0 < differing < len(findings)
    assert report.count("● yes") == differing
    assert f"{differing} of {len(findings)} metrics show a difference" in report


def test_report_without_a_difference_says_so(findings: list[Finding]) -> None:
    text = write_report(
        [f for f in findings if not f.significant] + [f.adjusted(1.0) for f in findings if f.significant]
    )
    assert "No metric shows a difference from real galaxies." in text
    assert "small differences stay unseen" in text
    assert "● yes" not in text


def test_report_says_what_is_not_testable(findings: list[Finding]) -> None:
    nan = float("nan")
    unknown = Finding("class_kernel", "cigar, morphology", "higher", nan, nan, nan, nan, nan, nan, 1.0, False)
    text = write_report([*findings, unknown])
    assert text.count("not testable") == 1 + write_report(findings).count("not testable")
    assert f"of {len(findings)} metrics show a difference" in text


def test_names_are_text_and_never_markup(report: str) -> None:
    assert "<script>alert" not in report
    assert "<b>odd" not in report
    assert "&lt;b&gt;odd&lt;/b&gt; &amp; &#39;quoted&#39;" in report


def test_quiz_shows_each_picture_once_with_its_answer() -> None:
    synthetic, real = pixels(3), pixels(4, seed=1)
    text = quiz_page(synthetic, real, summary_of("a </script> survey"), seed=5)
    page = Page(text)
    check_offline(page, text)
    (questions,) = re.findall(r"const QUESTIONS = (\[.*\]);\n", text)
    shown = {question["picture"]: question["synthetic"] for question in json.loads(questions)}
    assert len(shown) == 7
    for uri, answer in shown.items():
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))
        assert (synthetic == decoded).all((1, 2, 3)).any() == answer
        assert (real == decoded).all((1, 2, 3)).any() != answer
    assert list(shown.values()) != sorted(shown.values()), "the order must not give the answers away"
    assert text == quiz_page(synthetic, real, summary_of("a </script> survey"), seed=5)
    assert all(tag.get("type") == "button" for tag in page.all("button"))


@pytest.mark.parametrize("page", ["report", "quiz"])
@pytest.mark.parametrize("other", ["", "demo-2"])
def test_words_follow_the_survey(findings: list[Finding], page: str, other: str) -> None:
    def words(simulated: bool) -> set[str]:
        summary = summary_of("demo", simulated, other)
        text = write_report(findings, summary) if page == "report" else quiz_page(pixels(2), pixels(2), summary, 0)
        return words_of(text.replace("{real:", "{"))  # a key of the script

    assert not words(True) & {"real", "observed"}
    assert "simulated" in words(True) or (other and page == "quiz"), "that quiz names the surveys alone"
    assert ("real" in words(False)) == (not other)
    assert "simulated" not in words(False)


def test_histograms_have_equal_areas_and_hold_outliers() -> None:
    finding = Finding("wasserstein", "flux", "higher", 1, 1, 1, 0, 0, 0, 1.0, False)
    real = np.random.default_rng(0).normal(size=500)
    drawn = histogram(finding, real, np.append(real[:200], 1e6))
    heights = [
        np.array([90 - float(value) for value in re.findall(r"V([\d.]+)H", path)])
        for path in (drawn.real, drawn.synthetic)
    ]
    assert heights[0].sum() == pytest.approx(heights[1].sum(), rel=0.01)
    assert heights[1][-1] > 0
    assert max(map(np.max, heights)) == pytest.approx(90)
    constant = histogram(finding, np.ones(5), np.ones(5))
    assert constant.ticks == ("0.500", "1.00", "1.50")


def test_ranges_keep_their_order_and_unknown_numbers_have_none() -> None:
    drawn = value_range(Finding("coverage", "x", "lower", 0.5, 0.4, 0.6, 0.9, 0.8, 0.95, 0.01, True))
    assert drawn is not None
    assert (
        0 < drawn.low < drawn.value < drawn.high < drawn.floor_low < drawn.floor_low + drawn.floor_width < RANGE_WIDTH
    )
    assert value_range(Finding("diversity", "x", "different", np.nan, 0, 0, 0, 0, 0, 1.0, False)) is None
    assert [format_number(value) for value in (0, 1, -0.1234, 1234.5, np.nan)] == [
        "0",
        "1.00",
        "−0.123",
        "1234",
        "unknown",
    ]
