"""The stage `analyse`: sections about prototypes, and a report."""

from raydistill.table import DISTIL, Kind, Stage

STAGE = Stage(
    name="analyse",
    group=DISTIL,
    help="""Measure the prototypes beside the survey's galaxies; write a report.

report.html has pictures, figures and tables, with intervals; tables are also ECSV and Parquet
files. The distilled set must exist. distilled=PATH analyses another set on this config's
survey.""",
    example="raydistill analyse demo",
    page="how-to/analyse.md",
    kinds=(
        Kind(
            "analysis", "analysis", "raydistill.stages.analyse.artifact:AnalysisReport", look={"Report": "report.html"}
        ),
    ),
    spec="raydistill.stages.analyse.artifact:analysis_spec",
    run="raydistill.stages.analyse.stage:analyse",
    show="raydistill.stages.analyse.artifact:analysis_report",
    purpose="measure the images beside galaxies of the survey",
)
