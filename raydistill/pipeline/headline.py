"""The headline of a run in MLflow: figures, pictures, and how to repeat the run."""

from __future__ import annotations

from typing import Any

from raydistill.escaping import for_markdown, markdown_table
from raydistill.pipeline.plan import Plan
from raydistill.stages.evaluate.artifact import SUBJECTS, EvaluationReport
from raydistill.stages.evaluate.printing import fraction_of_experts
from raydistill.stages.evaluate.text import HEAD, accuracy_table, verdict
from raydistill.text import shown_name
from raydistill.tracking.tracker import Run


def record_headline(run: Run, plan: Plan, last: str, artifact: Any) -> None:
    """Record a note and the last stage's figures and pictures in a pipeline run.

    Parameters
    ----------
    run
        The run of the pipeline, the parent of those of the stages.
    plan
        Its plan.
    last
        Name of the last stage.
    artifact
        The artifact of that stage.
    """
    parts = [f"**{for_markdown(plan.config.name)}**, up to the stage `{last}`."]
    if isinstance(artifact, EvaluationReport):
        for name in (one for one in SUBJECTS if one in artifact.summary):
            balanced = artifact.summary[name]["balanced_accuracy"]
            figures = {"balanced_accuracy": balanced["mean"], "balanced_accuracy_ci95": balanced["ci95"]}
            run.metrics(
                {f"{shown_name(name)}/{figure}": value for figure, value in figures.items() if value is not None}, 0
            )
        share = fraction_of_experts(artifact, plan.config)
        if share is not None:
            run.metrics({"distilled/fraction_of_experts": share}, 0)
        for folder, name in ((plan.evaluated_set.folder, "atlas.png"), (artifact.folder, "accuracy.png")):
            if folder.exists(name):  # sets of other programs have no atlas
                run.artifact(folder.local(name))
        reached = [] if share is None else [f"It reaches {share:.0%} of its experts' balanced accuracy."]
        # The verdict first: MLflow's page shows some six lines, and the rest after a click.
        parts = [
            " ".join([parts[0], for_markdown(verdict(artifact.summary)), *reached]),
            markdown_table([HEAD, *accuracy_table(artifact.summary)]),
        ]
        parts.append(
            "Pictures: `atlas.png` (prototypes beside images of their class) and `accuracy.png` below Artifacts."
        )
    parts += [
        f"Files: `{artifact.folder}`",
        "The runs of the stages are below this one; each has its figures as artifacts.",
        f"Repeat it with `raydistill run CONFIG --to {last}` and config.yaml below Artifacts as CONFIG.",
    ]
    run.note("\n\n".join(parts))
