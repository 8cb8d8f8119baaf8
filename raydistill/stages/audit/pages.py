"""Choose the pictures of the audit's pages, and write the pages."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.figures.pages import picture, render
from raydistill.seeding import fold_in
from raydistill.stages.audit.artifact import QUIZ, REPORT, AuditSummary, Words
from raydistill.stages.audit.report import NUM_PAIRS, GridRow, Pair, grid_row, pair, report_page
from raydistill.stages.audit.worker import Blocks, Measured
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.statistics.testing import Finding
from raydistill.storage import Folder

# Write the quiz: a page that shows pictures one by one, and scores the reader.

Pixels = npt.NDArray[np.uint8]


def quiz_page(audited: Pixels, real: Pixels, summary: AuditSummary, seed: int) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    audited, real
        Pictures uint8 [n, H, W, 3] each: synthetic ones or those of another survey, and the survey's.
    summary
        Names of the surveys.
    seed
        Decides the order.
    """
    answers = [True] * len(audited) + [False] * len(real)
    order = np.random.default_rng(seed).permutation(len(answers))
    pixels = np.concatenate([audited, real])
    questions = [
        {"picture": picture(pixels[row], f"galaxy {n}").uri, "synthetic": answers[row]}
        for n, row in enumerate(order, 1)
    ]
    survey, other_survey, ours = summary.survey, summary.other_survey, summary.words.reference
    texts: dict[str, object] = {
        "title": f"{ours.capitalize()} or synthetic?",
        "explanation": f"Some are {ours} galaxies of {survey}, the others are synthetic.",
        "labels": (ours.capitalize(), "Synthetic"),
        "words": (ours, "synthetic"),
        "keys": ("1", "2") if summary.simulated else ("r", "s"),
    }
    if other_survey:
        texts = {
            "title": "Which survey?",
            "explanation": f"Some are of {survey}, the others of {other_survey}.",
            "labels": (survey, other_survey),
            "words": (f"of {survey}", f"of {other_survey}"),
            "keys": ("1", "2"),
        }
    return render("quiz.html", questions=questions, survey=survey, **texts)


Ints = npt.NDArray[np.int64]

ALL_CLASSES = "all classes"
PER_CLASS, MOST = 8, 96  # pictures of each kind: of a class, and in all


def write_pages(
    folder: Folder,
    curated: CuratedSet,
    blocks: Blocks,
    measured: Measured,
    nearest: pa.Table,
    summary: AuditSummary,
    findings: list[Finding],
    num_quiz: int,
) -> None:
    """Write `report.html` and `quiz.html`."""
    grid = make_grid(blocks, curated, summary)
    pairs = make_pairs(blocks, measured, nearest, summary.words)
    spaces = measured.synthetic.spaces
    quantities = {}
    if "morphology" in spaces:
        real, synthetic = (features.spaces["morphology"] for features in (measured.held_out, measured.synthetic))
        quantities = {
            name: (real.values_ND[:, column], synthetic.values_ND[:, column])
            for column, name in enumerate(real.quantities)
        }
    folder.write(REPORT, report_page(summary, findings, grid, pairs, quantities).encode())
    folder.write(QUIZ, make_quiz(blocks, summary, num_quiz).encode())


def make_grid(blocks: Blocks, curated: CuratedSet, summary: AuditSummary) -> list[GridRow]:
    """Return random pictures per class, or of all if the audited set has no classes."""
    names = curated.class_names if blocks.audited.labels_N is not None else [ALL_CLASSES]
    count = min(PER_CLASS, max(1, MOST // len(names)))
    if len(names) == 1:
        count = 2 * PER_CLASS
    synthetic, held_out = blocks.samples.synthetic, blocks.samples.held_out
    if blocks.audited.labels_N is None:
        labels = np.zeros(len(synthetic), np.int64), np.zeros(len(held_out), np.int64)
    else:
        labels = blocks.audited.labels_N[synthetic], blocks.held_out.labels_N[held_out]
    rows = []
    for label, name in enumerate(names):
        of_synthetic, of_real = (
            _choose(np.flatnonzero(labels_N == label), count, summary.seed, f"grid {kind}")
            for labels_N, kind in zip(labels, ("synthetic", "real"), strict=True)
        )
        audited, real = blocks.synthetic_images[of_synthetic], blocks.held_out.images(held_out[of_real])
        rows.append(grid_row(name, audited, real, summary.words))
    return rows


def make_pairs(blocks: Blocks, measured: Measured, nearest: pa.Table, words: Words) -> list[Pair]:
    """Return the audited pictures that are nearest to training pictures, with those."""
    chosen = measured.nearest.closest(NUM_PAIRS)
    training, held_out = (near.rows_SK[chosen, 0] for near in (measured.nearest.training, measured.nearest.held_out))
    pictures = zip(
        blocks.synthetic_images[chosen], blocks.searched.images(training), blocks.held_out.images(held_out), strict=True
    )
    return [
        pair(
            images,
            [row["object_id"], row["training_id"], row["held_out_id"]],
            [row["training_distance"], row["held_out_distance"]],
            words,
        )
        for images, row in zip(pictures, nearest.take(pa.array(chosen)).to_pylist(), strict=True)
    ]


def make_quiz(blocks: Blocks, summary: AuditSummary, num_pictures: int) -> str:
    """Return the quiz: half of the pictures are synthetic."""
    size, seed = len(blocks.samples), fold_in(summary.seed, "quiz")
    synthetic = _choose(np.arange(size), num_pictures // 2, seed, "synthetic")
    real = _choose(np.arange(size), num_pictures - num_pictures // 2, seed, "real")
    images = blocks.held_out.images(blocks.samples.held_out[real])
    return quiz_page(blocks.synthetic_images[synthetic], images, summary, seed)


def _choose(rows: Ints, count: int, seed: int, what: str) -> Ints:
    """Return some of the rows, sorted."""
    return np.sort(np.random.default_rng(fold_in(seed, what)).permutation(rows)[:count])
