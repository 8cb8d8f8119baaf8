"""The result of an evaluation as text: accuracies and the verdict."""

from __future__ import annotations

from typing import Any

from raydistill.config import Config
from raydistill.log import duration
from raydistill.stages.evaluate.artifact import HEAD as HEADS
from raydistill.stages.evaluate.artifact import SUBJECTS, UNSEEN, EvaluationReport, by_network, trained_network
from raydistill.stages.evaluate.report.text import HEAD, accuracy_table, format_figure, verdict
from raydistill.text import glossary, sentence, shown_name, text_table


def evaluation_report(config: Config, report: EvaluationReport) -> str:
    """Return the accuracies by training set, and the verdict."""
    trained = "linear heads on frozen features" if "full_data_head" in report.summary else "new networks"
    title = f"{config.name}: accuracy on test images of {trained}, by what they were trained on"
    parts = [
        text_table(title, [HEAD, *accuracy_table(report.summary)]),
        sentence("balanced accuracy: the mean over the classes of the share that is recognised", indent="  "),
        sentence("intervals: for other networks and other galaxies, with this distilled set", indent="  "),
        f"{glossary(SUBJECTS, report.summary)}\n",
    ]
    if costs := [f"{shown_name(name)} {duration(seconds)}" for name, seconds in report.cpu_seconds.items()]:
        parts.append(sentence(f"Processor time to make them: {', '.join(costs)}."))
    if config.evaluate.encoders:
        unseen = by_network(report.summary, HEADS)
        rows = [(shown_name(name), format_figure(means[UNSEEN])) for name, means in unseen.items() if UNSEEN in means]
        title = "heads on encoders with which the set was not made"
        parts.append(text_table(title, [HEAD[:2], *rows]))
    if len(config.trained_networks) > 1:
        parts.append(text_table("balanced accuracy ± 95 % of other networks", network_table(report, config)))
    if scores := score_table(report):
        head = ("trained on", "label-robust score", "augmentation-robust score")
        parts.append(text_table("DD-Ranking's scores in [0, 1], with 95 % intervals", [head, *scores]))
    parts.append(sentence(verdict(report.summary)))
    if (share := fraction_of_experts(report, config)) is not None:
        parts.append(f"It reaches {share:.0%} of its experts' balanced accuracy.")
    return "\n".join(parts)


def fraction_of_experts(report: EvaluationReport, config: Config) -> float | None:
    """Return the distilled set's balanced accuracy divided by its experts'.

    The result is None unless both have the same network; a set for heads has none.
    """
    distilled, experts = (
        report.summary.get(name, {}).get("balanced_accuracy", {}).get("mean") for name in ("distilled", "experts")
    )
    _, name = config.headline
    heads = any(pair["protocol"] == HEADS for pair in report.summary["distilled"]["all"])
    if distilled and experts and not heads and trained_network(report.summary["experts"], name) == name:
        return float(distilled / experts)
    return None


def network_table(report: EvaluationReport, config: Config) -> list[tuple[str, ...]]:
    """Return a header of networks, and a row of balanced accuracies per training set.

    A cell has two lines.
    """
    networks, accuracies = [network.name for network in config.networks], by_network(report.summary, config.headline[0])
    rows = [
        (shown_name(subject), *(format_figure(means.get(name)).replace(" ±", "\n±") for name in networks))
        for subject, means in accuracies.items()
    ]
    return [("trained on", *(name.replace("-", "\n", 1) for name in networks)), *rows]


def score_table(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """Return (training set, both scores) as text; empty if none were computed."""

    def shown(figure: dict[str, Any]) -> str:
        if figure["score"] is None:
            return "-"
        interval = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
        return f"{figure['score']:.3f}{interval}"

    scores = {name: entry["scores"] for name, entry in report.summary.items() if "scores" in entry}
    return [
        (shown_name(name), shown(of["label_robust"]), shown(of["augmentation_robust"])) for name, of in scores.items()
    ]
