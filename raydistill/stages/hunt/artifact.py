"""Define the artifacts of a hunt: `HuntRound` and `HuntReport`.

A round is for a person, a report for a scripted labeller.

A round (`hunt_round`) has:

- `sheet.html`: the candidates, to be labelled by keyboard; it saves `labels.csv`.
- `candidates.csv`: filename, object_id, score, reason.
- `catalogue.vot`: the labelled objects as a VOTable, with the score that they had before their
  label, and the purity among those of a high score; `catalogue.png`: the finds.
- `scores.parquet`: the score of every object, and its label so far. With `hunt.classes` it is
  `classes.parquet`: the most probable class, all probabilities, and the label.
- `labels.csv`: the labels that this round knew, byte for byte.
- `round.json`: counts, and how the round was made.

A report (`hunt`) has:

- `curves.parquet` and `curves.png`: objects found for labels spent, by strategy.
- `metrics.parquet`: how well the scores rank, at the start and at the end, with paired differences.
- `trials.parquet`: every label that was spent.
- `seen.parquet`: the targets that the experts and the synthetic sets have seen.
- `sheet.html`, `labels.csv`: the labels of the first trial, and the round that follows it.
- `hunt.json`: sizes and settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.records import Record
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.stages.hunt.config import REFERENCE, STRATEGIES
from raydistill.statistics.intervals import wilson
from raydistill.text import glossary, interval, sentence, shown_name, text_table

if TYPE_CHECKING:
    import pandas as pd


KIND, ROUND_KIND = kinds.HUNT, kinds.HUNT_ROUND
SUMMARY, ROUND = "hunt.json", "round.json"
SHEET, LABELS, CANDIDATES, SCORES = "sheet.html", "labels.csv", "candidates.csv", "scores.parquet"
CLASSES, CATALOGUE, FINDS = "classes.parquet", "catalogue.vot", "catalogue.png"
CURVES, METRICS, TRIALS, SEEN, FIGURE = (
    "curves.parquet", "metrics.parquet", "trials.parquet", "seen.parquet", "curves.png",
)  # fmt: skip

SCORES_SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("score", pa.float64()),  # probability of the target class; null: nothing could be learned, or no picture
        ("label", pa.bool_()),  # null: not labelled
    ]
)
CLASSES_SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("class_name", pa.string()),  # the most probable class; null: nothing could be learned, or no picture
        ("probability", pa.list_(pa.float32())),  # of each of `hunt.classes`, as learned, not calibrated
        ("label", pa.string()),  # null: not labelled
    ]
)
INTERVAL = [("mean", pa.float64()), ("low", pa.float64()), ("high", pa.float64())]  # 95 % over the seeds
CURVES_SCHEMA = pa.schema([("strategy", pa.string()), ("labels", pa.int64()), *INTERVAL])
METRICS_SCHEMA = pa.schema(
    [
        ("strategy", pa.string()),
        ("moment", pa.string()),  # start: before the first label; end: after the last one
        ("metric", pa.string()),
        *INTERVAL,
        ("difference", pa.float64()),  # to the strategy "real" with the same seeds
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("seeds", pa.int64()),
    ]
)
TRIALS_SCHEMA = pa.schema(
    [
        ("strategy", pa.string()),
        ("seed", pa.int64()),
        ("label", pa.int64()),  # from 1
        ("object_id", pa.string()),
        ("found", pa.bool_()),
        ("reason", pa.string()),
    ]
)
SEEN_SCHEMA = pa.schema(
    [
        ("by", pa.string()),  # experts, attributes, or the name of a source
        ("targets", pa.int64()),  # objects of the target class among the galaxies that it used
        ("galaxies", pa.int64()),
    ]
)


@dataclass(frozen=True)
class RoundSummary(Record):
    """The contents of `round.json`.

    Attributes
    ----------
    target, survey
        The target class, and the name of the survey.
    number
        Number of the round, from 1.
    num_objects
        Objects of the survey whose picture can be used.
    num_labels, num_found
        Labels before this round, and objects of the target class among them.
    threshold
        Smallest grade of an object of the target class; it only matters for grades.
    scale
        Kind of the labels: normal, yes-no, 1-5 or classes.
    learner
        Kind of the learner; "" if nothing could be learned yet.
    sources
        Names of the synthetic sources that were used.
    labelled
        Labels of each class, if the hunt is for classes.
    accuracy
        Balanced accuracy on labels that were held out in turn; None if there are too few. The labels
        are chosen, and so not a random sample of the survey.
    high_shown, high_found
        Labelled objects that a round showed for their high score, and those of the target class
        among them.
    """

    target: str
    survey: str
    number: int
    num_objects: int
    num_labels: int
    num_found: int
    threshold: int
    scale: str
    learner: str
    sources: tuple[str, ...]
    labelled: dict[str, int] = field(default_factory=dict)
    accuracy: float | None = None
    high_shown: int = 0
    high_found: int = 0


@dataclass(frozen=True, repr=False)
class HuntRound(Displayed):
    """An opened round of a hunt.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Counts, and how the round was made.

    Examples
    --------
    >>> import raydistill as rd
    >>> round = rd.open("runs/demo/hunt_round-0123456789ab")  # doctest: +SKIP
    >>> round.candidates()["reason"].value_counts()  # doctest: +SKIP
    """

    summary: RoundSummary

    kind = ROUND_KIND
    _json = ((ROUND, RoundSummary),)

    def _contents(self) -> str:
        of = self.summary
        what = f"{len(of.labelled)} classes" if of.labelled else f"'{of.target}'"
        found = "" if of.labelled else f", {of.num_found} found"
        return f"round {of.number} for {what}: {of.num_objects} objects, {of.num_labels} labels{found}"

    def scores(self) -> pd.DataFrame:
        """Return every object's score, or classes, in the survey's order.

        The columns are those of `SCORES_SCHEMA`, or of `CLASSES_SCHEMA` with `hunt.classes`.
        """
        return read_table(self.folder, CLASSES if self.summary.labelled else SCORES).to_pandas()

    def candidates(self) -> pd.DataFrame:
        """Return `filename`, `object_id`, `score` and `reason` of the candidates in order."""
        import io

        import pandas as pd

        return pd.read_csv(io.BytesIO(self.folder.read(CANDIDATES)), dtype={"filename": str, "object_id": str})

    _rows = candidates


@dataclass(frozen=True)
class HuntSummary(Record):
    """The contents of `hunt.json`.

    Attributes
    ----------
    target, survey
        The target class, and the name of the survey.
    simulated
        Whether the survey was simulated.
    positive
        Condition of the target class on the table of the truth.
    setting
        "strict": attributes and synthetic sets used no galaxy of the target class; "seen": they may have.
    num_objects, num_positive
        Objects of the survey with a picture and a truth, and those of the target class among them.
    num_examples
        Objects of the target class that were known at the start.
    rounds, per_round, seeds
        Rounds, labels of each, and repetitions.
    purity
        Required purity of the recall.
    strategies
        The strategies that were compared.
    """

    target: str
    survey: str
    simulated: bool
    positive: str
    setting: str
    num_objects: int
    num_positive: int
    num_examples: int
    rounds: int
    per_round: int
    seeds: int
    purity: float
    strategies: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class HuntReport(Displayed):
    """An opened comparison of strategies with a scripted labeller.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Sizes and settings.

    Examples
    --------
    >>> import raydistill as rd
    >>> report = rd.open("runs/demo_hunt/hunt-0123456789ab")  # doctest: +SKIP
    >>> report.table().query("metric == 'found'")  # doctest: +SKIP
    """

    summary: HuntSummary

    _pictures = "curves.png"

    kind = KIND
    _json = ((SUMMARY, HuntSummary),)

    def _contents(self) -> str:
        of = self.summary
        return f"{len(of.strategies)} strategies for '{of.target}', {of.num_positive} of {of.num_objects} objects"

    def table(self) -> pd.DataFrame:
        """Return one row per strategy, moment and metric: the columns of `METRICS_SCHEMA`."""
        return read_table(self.folder, METRICS).to_pandas()

    _rows = table

    def curves(self) -> pd.DataFrame:
        """Return objects found by strategy and labels: the columns of `CURVES_SCHEMA`."""
        return read_table(self.folder, CURVES).to_pandas()

    def trials(self) -> pd.DataFrame:
        """Return every label that was spent: the columns of `TRIALS_SCHEMA`."""
        return read_table(self.folder, TRIALS).to_pandas()

    def seen(self) -> pd.DataFrame:
        """Return the targets that experts and sources have seen (`SEEN_SCHEMA`)."""
        return read_table(self.folder, SEEN).to_pandas()


HUNT_METRICS = (("end", "found"), ("start", "found_in_first"))


HUNT_STRATEGIES = {
    "upper_bound": "knows all labels, the best to hope for",
    REFERENCE: "learns from labels alone",
    "random": "labels random objects",
    "attributes": "ranks by the predicted answers of volunteers",
    "network": "a network on the pixels learns from labels alone",
    "fixmatch": "a network on the pixels learns from labels and from objects without one",
}


TWO_LINES = "\n"  # between a mean and its interval


def hunt_report(config: Config, report: HuntRound | HuntReport) -> str:
    """Return what a round knows, or what each strategy found and the verdict."""
    if isinstance(report, HuntRound):
        done = report.summary
        if done.labelled:
            return _class_round_text(done)
        known = f"{done.num_labels} labels, {done.num_found} found so far"
        purity = wilson(done.high_found, done.high_shown)
        if done.high_shown:
            known += f"; {done.high_found} of {done.high_shown} shown for a high score, "
            known += f"a purity of {interval(*purity)}"
        return sentence(
            f"Round {done.number} of {done.target}: {known}. Label the candidates on the sheet, and save labels.csv."
        )
    summary = report.summary
    results = {(row["strategy"], row["moment"], row["metric"]): row for row in report.table().to_dict("records")}
    reference = shown_name(REFERENCE)
    head = ("strategy", "found", f"more than\n{reference}", "in the best 100\nbefore any label")
    rows = []
    for name in summary.strategies:
        metrics = [results[name, *key] for key in HUNT_METRICS]
        shown = [interval(row["mean"], row["low"], row["high"], between=TWO_LINES) for row in metrics]
        mean, low, high = (metrics[0][key] for key in ("difference", "difference_low", "difference_high"))
        more = interval(mean, low, high, sign="+", between=TWO_LINES)
        rows.append((shown_name(name), shown[0], more, *shown[1:]))
    spent, part = summary.rounds * summary.per_round, config.hunt.oracle and config.hunt.oracle.part
    which = "these galaxies" + (f" of hunt.oracle.part {part.index} of {part.parts}" if part else "")
    title = f"{summary.num_positive} of {summary.num_objects} are targets; {spent} labels, {summary.seeds} seeds"
    sources = [name for name in summary.strategies if name not in STRATEGIES]
    verdicts = [
        sentence(hunt_verdict(name, spent, results[name, "end", "found"]))
        for name in sources
        if REFERENCE in summary.strategies
    ]
    words = HUNT_STRATEGIES | dict.fromkeys(sources, "learns from labels and from synthetic examples")
    explained = [
        sentence(f"found: targets among {spent} labels; 95 % intervals over the seeds, for {which}", indent="  "),
        glossary(words, summary.strategies),
    ]
    return "\n".join(
        [text_table(f"{summary.target}: {title}", [head, *rows]), *explained, *(["", *verdicts] if verdicts else [])]
    )


def _class_round_text(done: RoundSummary) -> str:
    """Return the labels of each class, and how well they teach it."""
    rows = [(name, str(count)) for name, count in done.labelled.items()]
    words = "Label the candidates on the sheet, and save labels.csv."
    if done.accuracy is not None:
        words = f"Balanced accuracy on labels that were held out in turn: {done.accuracy:.2f}. {words}"
    return f"{text_table(f'Round {done.number}: labels so far', [('class', 'labels'), *rows])}\n{sentence(words)}"


def hunt_verdict(source: str, labels: int, result: Mapping[Any, Any]) -> str:
    """Return, as a sentence, what synthetic examples add to the finds.

    Parameters
    ----------
    source
        Name of the synthetic examples.
    labels
        Number of labels.
    result
        The row of `METRICS_SCHEMA` of the finds.
    """
    mean, low, high = (result[key] for key in ("difference", "difference_low", "difference_high"))
    gain = f"{abs(mean):.1f} {'more' if mean >= 0 else 'fewer'}"
    what = f"With the synthetic examples '{source}', {labels} labels find {result['mean']:.1f} objects, {gain} than without"
    if low != low:  # one seed has no interval
        return f"{what}; one seed does not show whether that is chance."
    beyond = "more than chance explains" if low > 0 or high < 0 else "which may be chance"
    return f"{what} (95 % interval over the seeds {low:+.1f} to {high:+.1f}): {beyond}."
