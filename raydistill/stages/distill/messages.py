"""Warnings and errors of a distillation in config keys; `core` reports quantities."""

from __future__ import annotations

from raydistill.distillation.diagnostics import WINDOW, Finding, LossAboveOne, MostSkipped, MostStationary
from raydistill.distillation.divergence import NotFinite, StudentLrOutOfRange
from raydistill.distillation.recipe import ResolvedRecipe
from raydistill.distillation.step_sizes import StationaryExperts
from raydistill.errors import ArtifactIncompatible, DivergenceError


def describe_finding(finding: Finding, recipe: ResolvedRecipe) -> str:
    """Return a warning that names the config keys to change."""
    where = f"iteration {finding.iteration}"
    if isinstance(finding, LossAboveOne):
        return (
            f"{where}: the matching loss stays above 1 (median {finding.median_loss:.2f}): the student ends farther from its target "
            f"than it began; lower distill.student_lr (now {finding.student_lr:.3g}) or distill.student_steps "
            f"(now {recipe.student_steps})"
        )
    if isinstance(finding, MostSkipped):
        return (
            f"{where}: in the last {WINDOW} iterations {finding.fraction:.0%} of the segments were skipped, because their loss was above "
            f"distill.skip_above = {recipe.options.skip_above:g}: little is learned; lower distill.student_lr "
            f"(now {finding.student_lr:.3g}) or raise it"
        )
    if isinstance(finding, MostStationary):
        return (
            f"{where}: in the last {WINDOW} iterations {finding.fraction:.0%} of the segments had nothing to match, because the experts "
            "did not move from start to target: little is learned; match earlier epochs (distill.schedule) or longer segments "
            "(distill.expert_epochs)"
        )
    return (
        f"{where}: the student's learning rate fell from {finding.first_lr:.3g} to {finding.student_lr:.3g}: its steps do not lead "
        f"where the experts went; begin with distill.student_lr={finding.student_lr:.2g}, or, if it falls from there too, train "
        "smoother experts (a lower experts.training.lr)"
    )


def translate_divergence(error: DivergenceError, recipe: ResolvedRecipe) -> DivergenceError:
    """Return the error with the stage and the config keys to change."""
    return DivergenceError(error.what, f"distill, {error.where}", _fix(error, recipe))


def _fix(error: DivergenceError, recipe: ResolvedRecipe) -> str:
    if isinstance(error, StudentLrOutOfRange):
        lr = recipe.options.lr_step.lr
        return f"lower distill.lr_step.lr (now {lr:.3g}), or start from another distill.student_lr"
    if not isinstance(error, NotFinite):
        return error.fix
    fix = f"lower distill.student_lr (now {error.student_lr:.3g})"
    if error.image_lr is not None:
        fix += f" or distill.image_step.lr (now {error.image_lr:.3g})"
        if recipe.options.image_step.kind == "sgd":
            fix += ", or use distill.image_step={kind: adam, lr: 0.03}"
    return fix


def translate_stationary(error: StationaryExperts) -> ArtifactIncompatible:
    """Return the error with the stage and the config keys to change."""
    first, last = error.epochs
    return ArtifactIncompatible(
        f"the experts do not move at start epochs {first} and {last}, so no learning rate can be chosen from their displacement",
        "distill",
        "match earlier epochs (distill.schedule), or give the rates that are auto",
    )
