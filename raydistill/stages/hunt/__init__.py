"""The hunt stage: rank rare objects for a person, or compare strategies.

A scripted labeller replaces the person in a comparison.
"""

from raydistill.table import GENERATE, Kind, Stage

STAGE = Stage(
    name="hunt",
    group=GENERATE,
    help="""Find rare objects in a survey from a few labels.

Open sheet.html of the round in a browser, label the candidates by keyboard and save labels.csv.
Then give hunt.labels=labels.csv for the next round. With hunt.oracle a table of the truth
answers, and strategies are compared. The predictions of the survey must exist.""",
    example="raydistill hunt demo_hunt hunt.oracle=null",
    page="how-to/hunt.md",
    kinds=(
        Kind(
            "hunt_round",
            "round of a hunt",
            "raydistill.stages.hunt.artifact:HuntRound",
            look={"Candidates to label": "sheet.html"},
            then="hunt CONFIG hunt.labels=labels.csv",
            revision=2,
        ),
        Kind(
            "hunt",
            "report of a hunt",
            "raydistill.stages.hunt.artifact:HuntReport",
            look={"Finds by label": "curves.png", "Candidates of the last round": "sheet.html", "Labels": "labels.csv"},
            then="hunt CONFIG hunt.oracle=null",
            before="Next, to label galaxies yourself",
            revision=2,
        ),
    ),
    spec="raydistill.stages.hunt.specs:hunt_spec",
    run="raydistill.stages.hunt.stage:hunt",
    show="raydistill.stages.hunt.artifact:hunt_report",
    purpose="search for rare galaxies, and learn from each label",
)
