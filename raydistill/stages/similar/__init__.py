"""The similar stage: find the galaxies of a survey most like some of them."""

from raydistill.table import GENERATE, Argument, Kind, Stage

STAGE = Stage(
    name="similar",
    group=GENERATE,
    help="""Find the galaxies of a survey that are most like one of them, or several.

ID is the id of a galaxy of the survey, or ids with commas between them. The predictions of the
survey must exist; what describes pictures is the key `features`. The sheet shows the nearest
galaxies; mark some as more like it or less, and it gives the command that narrows the search.""",
    example="raydistill similar demo sim-000003",
    page="how-to/similar.md",
    kinds=(
        Kind(
            "similar",
            "sheet of similar galaxies",
            "raydistill.stages.similar.artifact:SimilarSheet",
            look={"The nearest galaxies": "sheet.html", "The same as a picture": "sheet.png"},
        ),
    ),
    spec="raydistill.stages.similar.artifact:similar_spec",
    run="raydistill.stages.similar.stage:similar",
    show="raydistill.stages.similar.artifact:similar_text",
    purpose="find the galaxies that look most alike",
    argument=Argument("similar.more", "ID"),
)
