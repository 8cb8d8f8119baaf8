"""The artifacts of a detection: the synthetic set, the frames, and the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raydistill.artifacts import kinds
from raydistill.config import Curate
from raydistill.errors import ArtifactMissing
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec
from raydistill.stages.detect.labelled import frames_digest


def synthetic_spec(plan: Plan) -> ArtifactSpec:
    """Return the synthetic set of the run, or that of `detect.set`.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        The folder has no finished synthetic set.
    """
    path = plan.config.detect.set
    if path is None:
        return plan.synthetic
    return existing_spec(kinds.SYNTHETIC, path, "give the folder of a synthetic set")


def frames_spec(plan: Plan) -> ArtifactSpec:
    """Return the curated set of whole frames, whether or not it exists.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        `detect.frames` is not a curated set.
    """
    detect = plan.config.detect
    if detect.frames is not None:
        return existing_spec(kinds.CURATED, detect.frames, "correct detect.frames=PATH")
    return Plan(replace(plan.config, curate=_whole(plan))).curated


def require_frames(plan: Plan) -> None:
    """Raise ArtifactMissing with the command that writes the frames, if none exist."""
    frames, curate, whole = frames_spec(plan), plan.config.curate, _whole(plan)
    if not frames.exists:
        values = {"crop_fraction": "1", "image_size": str(whole.image_size), "align": "false", "whitening": "null"}
        changed = [
            f"curate.{key}={text}" for key, text in values.items() if getattr(curate, key) != getattr(whole, key)
        ]
        fix = f"run 'raydistill curate CONFIG {' '.join(changed)}', or give detect.frames=PATH"
        raise ArtifactMissing("there is no curated set of whole frames here", frames.folder.uri, fix)


def _whole(plan: Plan) -> Curate:
    """Return the curation of whole frames with the side of a field."""
    side = plan.config.detect.side
    return replace(plan.config.curate, crop_fraction=1.0, image_size=side, align=False, whitening=None)


def detection_spec(plan: Plan) -> ArtifactSpec:
    """Return the report of a detector trained on a synthetic set."""
    detect = plan.config.detect
    parents = {"frames": frames_spec(plan), kinds.SYNTHETIC: synthetic_spec(plan)}
    # The paths of the frames and the set do not matter, but their identities do.
    parts: dict[str, Any] = {"detect": replace(detect, frames=None, set=None)}
    if detect.labelled is not None:
        parts["detect"] = replace(parts["detect"], labelled=replace(detect.labelled, train="", test=""))
        parts["labelled_sha256"] = frames_digest(detect.labelled)
    return plan.spec(kinds.DETECTION, parts, parents, detect.seed)
