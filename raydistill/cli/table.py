"""The table of the stages' commands: group, help, example, documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAIN, SYNTHETIC, SURVEYS, DATA, TOOLS = GROUPS = (
    "From a survey to a distilled set",
    "Synthetic galaxies",
    "Search for rare objects, other surveys",
    "Data",
    "Tools",
)


@dataclass(frozen=True)
class Row:
    """The command of a stage.

    Parameters
    ----------
    group
        Its group in the help.
    help
        First line, and the rest after an empty line.
    example
        A command that runs with a shipped config.
    page
        Its page of the documentation.
    argument
        What the command takes beside a config: the optional folder of a SET, a SURVEY, a TARGET, or
        the option of a FILTER.
    """

    group: str
    help: str
    example: str
    page: str
    argument: Literal["", "SET", "SURVEY", "TARGET", "FILTER"] = ""


STAGES: dict[str, Row] = {
    "simulate": Row(
        MAIN, "Render a simulated survey, with simulated volunteers' votes.",
        "raydistill simulate demo", "tutorial.md",
    ),
    "curate": Row(
        MAIN, "Select classes and galaxies; check, crop and resize images.",
        "raydistill curate demo", "how-to/own-survey.md",
    ),
    "experts": Row(
        MAIN, "Train the expert networks and store their trajectories.",
        "raydistill experts demo", "tutorial.md",
    ),
    "distill": Row(
        MAIN, "Distil a few images per class that match the trajectories.",
        "raydistill distill demo distill.iterations=200", "tutorial.md",
    ),
    "evaluate": Row(
        MAIN,
        "Compare networks trained on the distilled set with baselines.\n\n"
        "Train fresh networks on the distilled set and on every baseline, and evaluate them on test galaxies. "
        "distilled=PATH evaluates another distilled set on this config's survey.",
        "raydistill evaluate demo", "how-to/compare.md",
    ),
    "analyse": Row(
        MAIN,
        "Measure the prototypes beside the survey's galaxies; write a report.\n\n"
        "report.html has pictures, figures and tables, with intervals; tables are also ECSV and Parquet files. "
        "The distilled set must exist. distilled=PATH analyses another set on this config's survey.",
        "raydistill analyse demo", "how-to/analyse.md",
    ),
    "generate": Row(
        SYNTHETIC,
        "Train a generator of galaxies on the curated set.\n\n"
        "`generate.conditions` in the config says what it is given of a galaxy: votes, class, size, colour. "
        "Previews show samples beside galaxies of the survey.",
        "raydistill generate demo_diffusion", "how-to/generate.md",
    ),
    "sample": Row(
        SYNTHETIC,
        "Make synthetic galaxies: sample, inject, or simulate.\n\n"
        "`sample.source` in the config says where they come from, by default the generator. Its "
        "`sample.conditions` say what they show: classes, answers of volunteers, a table, or galaxies of the survey with "
        "some answers changed. Every row and picture says that it is synthetic.",
        "raydistill sample demo_diffusion", "how-to/sample.md", "FILTER",
    ),
    "audit": Row(
        SYNTHETIC,
        "Compare a set of images with galaxies of the survey.\n\n"
        "SET is the folder of a synthetic set, a distilled set, or the curated set of another survey; by default "
        "that of `raydistill sample CONFIG`. The result has a report and a quiz: report.html and quiz.html.",
        "raydistill audit demo_diffusion", "how-to/audit.md", "SET",
    ),
    "augment": Row(
        SYNTHETIC,
        "Compare classifiers with and without synthetic galaxies.\n\n"
        "`augment` in the config has the sets, the numbers of labelled galaxies and the methods. All classifiers "
        "take the same number of steps.",
        "raydistill augment demo_diffusion", "how-to/augment.md",
    ),
    "detect": Row(
        SYNTHETIC,
        "Train a detector on synthetic galaxies; test it on frames of the survey.\n\n"
        "SET is the folder of a synthetic set; by default that of `raydistill sample CONFIG`. The galaxies are "
        "placed into larger fields with exact boxes and masks, which are written in the format of COCO.",
        "raydistill detect demo_diffusion detect.steps=800", "how-to/detect.md", "SET",
    ),
    "predict": Row(
        SURVEYS,
        "Predict the class of every picture of a survey.\n\n"
        "The trained experts of CONFIG must exist. The result has mean and spread of the class probabilities and "
        "the features of each picture.",
        "raydistill predict demo demo", "how-to/predict.md", "SURVEY",
    ),
    "hunt": Row(
        SURVEYS,
        "Find rare objects in a survey from a few labels.\n\n"
        "Open sheet.html of the round in a browser, label the candidates by keyboard and save labels.csv. "
        "Then give hunt.labels=labels.csv for the next round. With hunt.oracle a table of the truth answers, and "
        "strategies are compared. The predictions of the survey must exist.",
        "raydistill hunt demo_hunt hunt.oracle=null", "how-to/hunt.md",
    ),
    "adapt": Row(
        SURVEYS,
        "Adapt networks to another survey without its labels.\n\n"
        "Networks trained on CONFIG's survey are aligned with the unlabelled galaxies of TARGET. The report "
        "compares source, target without and with the alignment, and networks trained on the target's labels, "
        "which nothing else uses. Both curated sets must exist.",
        "raydistill adapt adapt_simulated adapt_simulated_target", "how-to/adapt.md", "TARGET",
    ),
    "tune": Row(
        TOOLS,
        "Search for the recipe with the best accuracy in validation.\n\n"
        "`search` in the config has the values of `distill` to try, and the number of trials. The best recipe is "
        "written as a new config.",
        "raydistill tune gz2_search", "how-to/search.md",
    ),
}  # fmt: skip
