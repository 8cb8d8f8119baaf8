"""Checks before an evaluation.

They check that the distilled set fits the survey, and find the test galaxies that are independent
of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.compute as pc
import torch
from torch import Tensor

from raydistill.config import Protocol
from raydistill.errors import ArtifactIncompatible
from raydistill.log import get_logger
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet

log = get_logger(__name__)


def check_compatible(distilled: DistilledSet, curated: CuratedSet, protocols: Mapping[str, Protocol]) -> None:
    """Raise ArtifactIncompatible unless classes, image size and alignment agree.

    A set of aligned galaxies also fits a survey that is not aligned, if every protocol rotates its
    images in training.
    """
    where = distilled.folder.uri
    distilled.require(curated.class_names, curated.summary.image_size)
    if distilled.aligned == curated.summary.aligned:
        return
    if not distilled.aligned:
        what = "its galaxies are not aligned to their major axis, the survey's are"
        raise ArtifactIncompatible(what, where, "set curate.align=false")
    for name, protocol in protocols.items():
        if protocol.training.augmentation.largest_tilt < 90:
            raise ArtifactIncompatible(
                f"its galaxies are aligned to their major axis, the survey's are not, and the protocol '{name}' does not turn "
                "them in training",
                where,
                f"set curate.align=true, or evaluate.protocols.{name}.training.augmentation.operations=[dihedral]",
            )
    log.warning("evaluate: the set's galaxies are aligned, the survey's are not; networks are trained on turned images")


def independent_galaxies(distilled: DistilledSet, curated: CuratedSet) -> Tensor:
    """Return a mask of the test galaxies that did not contribute to the distilled set.

    Releases of one survey use different ids: Kaggle renamed its galaxies of Galaxy Zoo 2. So the
    pictures are compared byte for byte as well. Within the curated set it was distilled from, the
    split alone decides.

    Returns
    -------
    Tensor
        bool [N]; False where the set's experts or its selection on validation used the same
        picture.

    Raises
    ------
    ArtifactIncompatible
        If they used a test galaxy under the same id, or every picture of the test split.
    """
    where, test, used = distilled.folder.uri, curated.table("test", ["object_id", "source"]), distilled.seen()
    if shared := set(used["object_id"].to_pylist()).intersection(test["object_id"].to_pylist()):
        raise ArtifactIncompatible(
            f"{len(shared)} of the test galaxies were used to make it (first: {min(shared)})",
            where,
            "set curate.split to the split it was distilled with",
        )
    own = distilled.manifest.parents.get("curated")
    if own is not None and own.identity == curated.manifest.identity:
        return torch.ones(len(test), dtype=torch.bool)
    pictures = pc.struct_field(test["source"], "sha256")
    independent = torch.tensor(pc.invert(pc.is_in(pictures, used["sha256"])).to_pylist(), dtype=torch.bool)
    num_used = int((~independent).sum())
    if num_used and not independent.any():
        what = "the pictures of all test galaxies were used to make it, under other ids"
        raise ArtifactIncompatible(what, where, "evaluate it on other galaxies")
    if num_used:
        what = "evaluate: %d of %d test galaxies were used under another id to make this set, and are left out"
        log.warning(what, num_used, len(independent))
    return independent
