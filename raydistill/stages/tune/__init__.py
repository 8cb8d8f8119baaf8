"""The tune stage: search the distillation recipe with Ray Tune."""

from raydistill.table import DISTIL, Kind, Stage

STAGE = Stage(
    name="tune",
    group=DISTIL,
    help="""Search for the recipe with the best accuracy in validation.

`search` in the config has the values of `distill` to try, and the number of trials. The best
recipe is written as a new config.""",
    example="raydistill tune gz2_search",
    page="how-to/search.md",
    kinds=(
        Kind(
            "search",
            "search",
            "raydistill.stages.tune.artifact:SearchReport",
            look={"All trials": "parallel.png", "The best recipe": "best.yaml"},
            then="run FOLDER/best.yaml",
        ),
    ),
    spec=lambda plan: plan.search,
    run="raydistill.stages.tune.stage:tune",
    show="raydistill.stages.tune.artifact:search_report",
)
