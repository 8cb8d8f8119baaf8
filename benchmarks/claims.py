r"""Try the claim of every paper on simulated galaxies; write docs/claims.md.

    python benchmarks/claims.py [NAME ...] [--output FOLDER]     # try all claims, or some
    python benchmarks/claims.py --page                           # write the page from the results alone

Each small form is a few commands of raydistill, of at most 15 minutes on two cores. Its figures go
to `benchmarks/results/claims.json`, with the commands and the seconds that they took. The page has
them beside what `benchmarks/claims.yaml` says of paper, protocol and the measurement at full size.
A stopped run resumes when the command is run again; a finished artifact takes no time.
"""

from __future__ import annotations

import argparse
import json
import shlex
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shadows
import variations
import yaml
from blocks import FORMS as BLOCKS
from detectors import AP, AP50, detector_runs, gain
from running import ROOT, run_stage

from raydistill import open as open_artifact
from raydistill.artifacts.tables import read_table
from raydistill.stages.audit.artifact import PICTURES
from raydistill.stages.audit.forensics import area
from raydistill.statistics.intervals import Interval

RESULTS, TEXTS, PAGE = (
    ROOT / "benchmarks" / "results" / "claims.json",
    ROOT / "benchmarks" / "claims.yaml",
    ROOT / "docs" / "claims.md",
)
PARTS = {"Claim": "claim", "Figure of the paper": "published", "Protocol": "protocol", "Here": "here"}
CONFIG = "claims"
Figure = dict[str, Any]  # what, value, low, high


def figure(what: str, value: Any, low: float | None = None, high: float | None = None) -> Figure:
    """Return a figure; an `Interval` brings its ends."""
    if isinstance(value, Interval):
        value, low, high = value
    ends = [None if end is None or end != end else round(float(end), 4) for end in (low, high)]
    return {"what": what, "value": round(float(value), 4), "low": ends[0], "high": ends[1]}


class Runner:
    """Run commands, remember them, and open what they made."""

    def __init__(self, output: str) -> None:
        self.output, self.commands = output, list[str]()

    def __call__(self, stage: str, *words: str) -> Any:
        """Run a command and return its artifact."""
        return open_artifact(str(self.run(stage, *words)))

    def run(self, stage: str, *words: str) -> Path:
        """Run a command and return the folder of its artifact."""
        self.commands.append(shlex.join(["raydistill", stage, *words]))
        return Path(run_stage(stage, [*words, f"output={self.output}"]))


# The protocol of arXiv:2311.17967 with few narrow experts, at 32 px.
PAPER = (
    "paper_simulated", "extends=parts/paper_two_cores", "survey.num_galaxies=1500", "survey.image_size=64",
    "curate.image_size=32", "curate.per_class=60", "network.width=16", "experts.num_experts=4",
    "experts.training={epochs: 20, batch_size: 16}", "distill.iterations=150", "distill.validate_every=50",
    "distill.validation_epochs=200", "evaluate.protocols.paper.training.epochs=200", "evaluate.num_networks=3",
    "evaluate.full_data_networks=0",
)  # fmt: skip


def of_mean(what: str, entry: dict[str, Any]) -> Figure:
    """Return a figure {mean, ci95} of an evaluation or an adaptation."""
    mean, half = entry["mean"], entry["ci95"]
    return figure(what, mean, *((mean - half, mean + half) if half is not None else ()))


def matching(run: Runner) -> list[Figure]:
    names = {"distilled": "one distilled image a class", "class_mean": "class means", "experts": "experts"}
    runs = {"own recipe": run("run", "demo").summary, "protocol of the paper": run("run", *PAPER).summary}
    return [
        of_mean(f"balanced accuracy, {recipe}, {text}", summary[name]["balanced_accuracy"])
        for recipe, summary in runs.items()
        for name, text in names.items()
    ]


def compared(run: Runner, method: str, metric: str, what: str, baseline: str = "oversampling") -> list[Figure]:
    """Return a method's difference to a baseline in the run's comparison."""
    run.run("run", CONFIG, "--to", "sample")
    run.run("pretrain", CONFIG)
    rows = run("augment", CONFIG).differences(all_baselines=True)
    (row,) = rows[(rows["method"] == method) & (rows["baseline"] == baseline)].to_dict("records")
    return [figure(what, row[metric], row[f"{metric}_low"], row[f"{metric}_high"])]


def generated(run: Runner) -> list[Figure]:
    what = "macro-F1 with synthetic galaxies minus without, 10 labels a class"
    found = run("run", "demo_hunt", "--to", "hunt").table()
    (row,) = found[
        (found["strategy"] == "injection") & (found["moment"] == "end") & (found["metric"] == "found")
    ].to_dict("records")
    more = figure(
        "lanes found in 100 labels with synthetic examples minus without",
        *(row[key] for key in ("difference", "difference_low", "difference_high")),
    )
    return [*compared(run, "real_synthetic", "macro_f1", what), more]


def few_labels(run: Runner) -> list[Figure]:
    what = "accuracy of a head on the encoder minus that of a network from scratch, 10 labels a class"
    return compared(run, "head", "balanced_accuracy", what, "flips")


def recombined(run: Runner) -> list[Figure]:
    return compared(run, "real_recombined", "rare_f1", "F1 of the three rarest classes, recombined minus oversampled")


def varied(run: Runner) -> list[Figure]:
    run.run("run", CONFIG, "--to", "curate")
    judge = run.run("pretrain", CONFIG, "pretrain.seed=100")
    words = [CONFIG, f"features={run.run('pretrain', CONFIG)}"]
    run.commands.append(f"python benchmarks/variations.py {shlex.join(words)} --judge {judge}")
    values = variations.figures([*words, f"output={run.output}"], str(judge))["judge"]
    return [figure("share of the class that is less like a sample than its own galaxy", values["rank"])]


def heads(run: Runner) -> list[Figure]:
    words = [CONFIG, "extends=parts/heads", "distill.objective.encoders=[pretrain]", "distill.iterations=200"]
    words += ["evaluate.baselines=[random_real]", "evaluate.full_data_networks=0"]
    run.run("run", CONFIG, "--to", "curate")
    for stage in ("pretrain", "distill"):
        run.run(stage, *words)
    summary = run("evaluate", *words).summary
    names = {"distilled": "one image a class", "nearest_feature": "nearest galaxies", "full_data_head": "all galaxies"}
    return [of_mean(f"accuracy of a head, {text}", summary[name]["balanced_accuracy"]) for name, text in names.items()]


def detected(run: Runner) -> list[Figure]:
    generator = "generate.model={network: {kind: mlp, width: 512, blocks: 5}, space: {kind: components}}"
    words = [generator, "sample.num_images=700"]
    run.commands.append(
        f"python benchmarks/detectors.py --frames 10 --seeds 0 1 --side 128 --steps 200 {shlex.join(words)}"
    )
    runs = detector_runs([f"output={run.output}", *words], [10], [0, 1], side=128, steps=200)
    return [
        figure(
            f"{text} with synthetic fields minus ten labelled frames alone",
            gain(runs["both", 10], runs["labelled", 10], name),
        )
        for name, text in ((AP, "AP"), (AP50, "AP50"))
    ]


def forensic(run: Runner) -> list[Figure]:
    run.run("run", CONFIG, "--to", "sample")
    source = ["sample.source={kind: injection, model: {kind: dust_lane}}", "sample.conditions=null"]
    injected = run.run("sample", CONFIG, *source)
    report = run("audit", CONFIG, f"audit.pictures=[{injected}]", "features=experts")
    scores = read_table(report.folder, PICTURES).to_pandas()
    by_set = {name: rows["score"].to_numpy() for name, rows in scores.groupby("set")}
    names = {"audited": "its own generator", str(injected): "injections, which it has not seen"}
    return [
        figure(f"area under the ROC curve, {text}", area(by_set[name], by_set["held-out"]))
        for name, text in names.items()
    ]


def gated(run: Runner) -> list[Figure]:
    """Compare the gate, plain attention and none after a short training."""
    results = []
    run.run("run", CONFIG, "--to", "curate")
    for form, (block, condition) in BLOCKS.items():
        if condition != "class":
            continue
        network = f"generate.model={{network: {{kind: unet, {block}}}, space: {{kind: pixels}}}}"
        words = [CONFIG, network, "generate.training.steps=400", "features=experts"]
        for stage in ("generate", "sample"):
            run.run(stage, *words)
        rows = run("audit", *words).table().set_index(["metric", "feature"])
        for what in ("colour_green_blue", "half_light_radius", "ellipticity"):
            row = rows.loc[("wasserstein", what)]
            ends = (row[key] / row["floor"] for key in ("value", "low", "high"))
            results.append(figure(f"distance of {what.replace('_', ' ')} over its floor, {form}", *ends))
    return results


def aligned(run: Runner) -> list[Figure]:
    for config in (CONFIG, "claims_target"):
        run.run("run", config, "--to", "curate")
    figures = run("adapt", CONFIG).figures["source"]
    names = {
        "none": "as it is",
        "matched": "matched pixels",
        "adapted": "also aligned",
        "upper_bound": "its own labels",
    }
    return [of_mean(f"accuracy on the target, {text}", figures[name]) for name, text in names.items()]


def faint(run: Runner) -> list[Figure]:
    run.commands.append("python benchmarks/shadows.py --objects 800")
    found = shadows.figures(Path(run.output), 800)
    return [figure(f"accuracy, {what}", value) for what, value in found.items() if "and those of" not in what]


FORMS: dict[str, Callable[[Runner], list[Figure]]] = {
    "stm": matching, "galaxysd": generated, "large-vision-model": few_labels, "representation-guided": varied,
    "linear-gradient-matching": heads, "instagen": detected, "genface": forensic, "galcatdiff": gated,
    "deepastrouda": aligned, "deepshadows": faint, "decaug": recombined,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FORMS)}; without one all")
    parser.add_argument("--output", default="runs")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(FORMS):
        parser.error(f"no claim is named {', '.join(sorted(unknown))}; known are {', '.join(FORMS)}")
    for name in () if options.page else options.names or FORMS:
        run, begin = Runner(options.output), time.monotonic()
        figures = FORMS[name](run)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        commands = list(dict.fromkeys(command.replace(f"{options.output}/", "") for command in run.commands))
        # Finished artifacts take no time, so the longest run counts, of all forms with these commands.
        before = [one["seconds"] for one in results.values() if one["commands"] == commands]
        seconds = max(round(time.monotonic() - begin), *before, 1)
        results[name] = {"figures": figures, "seconds": seconds, "commands": commands}
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
        print(f"{name}: {'; '.join(map(shown, figures))} ({results[name]['seconds']} s)", flush=True)
    PAGE.write_text(page(yaml.safe_load(TEXTS.read_text()), json.loads(RESULTS.read_text())))


def shown(of: Figure) -> str:
    """Return a figure as text."""
    ends = "" if of["low"] is None else f" [{of['low']:.3f}, {of['high']:.3f}]"
    return f"{of['what']} {of['value']:.3f}{ends}"


def page(texts: dict[str, Any], results: dict[str, Any]) -> str:
    """Return docs/claims.md."""
    lines = [texts["head"].rstrip(), ""]
    for name, text in texts["claims"].items():
        result = results.get(name)
        lines.append(f"## {text['paper']}")
        for word, key in PARTS.items():
            if key in text:
                filled = textwrap.fill(f"**{word}.** {text[key]}", 100, break_long_words=False, break_on_hyphens=False)
                lines += [filled, ""]
        if "command" in text:
            lines += [f"**Command**: {', '.join(f'`{command}`' for command in text['command'].split('; '))}", ""]
        if result is None:
            continue
        minutes = max(1, round(result["seconds"] / 60))
        lines += [f"**Small form**, {minutes} min: `python benchmarks/claims.py {name}`", ""]
        lines += ["| on simulated galaxies | value | 95 % interval |", "|---|---|---|"]
        for of in result["figures"]:
            ends = "" if of["low"] is None else f"{of['low']:.3f} to {of['high']:.3f}"
            lines.append(f"| {of['what']} | {of['value']:.3f} | {ends} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
