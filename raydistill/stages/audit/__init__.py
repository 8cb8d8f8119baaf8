"""The audit stage: compare synthetic pictures with real ones, and write a report."""

from raydistill.table import GENERATE, Argument, Kind, Stage

STAGE = Stage(
    name="audit",
    group=GENERATE,
    help="""Compare a set of images with galaxies of the survey.

SET is the folder of a synthetic set, a distilled set, or the curated set of another survey; by
default that of `raydistill sample CONFIG`. The result has a report and a quiz: report.html and
quiz.html.""",
    example="raydistill audit demo_diffusion",
    page="how-to/audit.md",
    kinds=(
        Kind(
            "audit",
            "audit",
            "raydistill.stages.audit.artifact:AuditReport",
            revision=3,
            look={"Report": "report.html", "Quiz": "quiz.html"},
            then="augment CONFIG",
        ),
    ),
    spec="raydistill.stages.audit.artifact:audit_spec",
    run="raydistill.stages.audit.stage:audit",
    show="raydistill.stages.audit.artifact:audit_report",
    purpose="test whether synthetic pictures differ from galaxies of the survey",
    argument=Argument("audit.set", "SET"),
)
