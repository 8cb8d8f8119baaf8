"""The builtin sets of classes, as data: each class's path in the decision tree.

| classes | of the trees | source |
|---|---|---|
| `…-9` | all but `gz-rings` | nine classes for Galaxy Zoo 2, Guan et al. 2023 (arXiv:2311.17967) |
| `gz2-9-lens` | `gz2` | the nine classes, and gravitational lenses |
| `gz2-5` | `gz2` | the five classes of Zhu et al. 2019 (Ap&SS 364, 55) |
| `gz-rings-2` | `gz-rings` | its two answers |
| `…-10` | those with GZ DECaLS's questions | after the classes of Galaxy10 DECaLS (Leung & Bovy) |

A bar counts as one whether strong or weak. In GZ Hubble and GZ CANDELS, a disk is not clumpy.
Galaxy10 selects its classes by thresholds that are not reproduced: here a class is a path, and
`curate.min_confidence` is the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping

from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import (
    GZ2,
    GZ_CANDELS,
    GZ_COSMIC_DAWN,
    GZ_DECALS,
    GZ_DECALS_12,
    GZ_EUCLID,
    GZ_HUBBLE,
    GZ_JWST,
    GZ_RINGS,
)

Step = str | tuple[str, ...]  # an answer, or alternative answers
Path = tuple[Step, ...]
Paths = Mapping[str, Path]


def _nine(smooth: Paths, disk: Path, bulge: Step, no_bulge: str, bar: Step, no_bar: str, spiral: str) -> Paths:
    """Return the nine classes; `spiral` is the question of spiral arms."""
    edge_on, face_on = (*disk, "disk-edge-on_yes"), (*disk, "disk-edge-on_no")
    return {
        **smooth,
        "edge_on_bulge": (*edge_on, bulge),
        "edge_on_no_bulge": (*edge_on, no_bulge),
        "bar_spiral": (*face_on, bar, f"{spiral}_yes"),
        "bar_no_spiral": (*face_on, bar, f"{spiral}_no"),
        "no_bar_spiral": (*face_on, no_bar, f"{spiral}_yes"),
        "no_bar_no_spiral": (*face_on, no_bar, f"{spiral}_no"),
    }


def _smooth(round_: str, cigar: str) -> Paths:
    return {
        "smooth_round": ("smooth", round_),
        "smooth_in_between": ("smooth", "in-between"),
        "smooth_cigar": ("smooth", cigar),
    }


_DISK = ("features_or_disk",)
_FACE_ON = (*_DISK, "edgeon_no")

# From the class table of the paper: a bulge is rounded or boxy, and "disk" is features-or-disk.
_GZ2_NINE: Paths = {
    "smooth_round": ("smooth", "completely_round"),
    "smooth_in_between": ("smooth", "in_between"),
    "smooth_cigar": ("smooth", "cigar_shaped"),
    "edge_on_bulge": (*_DISK, "edgeon_yes", ("rounded", "boxy")),
    "edge_on_no_bulge": (*_DISK, "edgeon_yes", "bulge_shape_no_bulge"),
    "bar_spiral": (*_FACE_ON, "bar", "spiral"),
    "bar_no_spiral": (*_FACE_ON, "bar", "no_spiral"),
    "no_bar_spiral": (*_FACE_ON, "no_bar", "spiral"),
    "no_bar_no_spiral": (*_FACE_ON, "no_bar", "no_spiral"),
}

_GZ2_FIVE: Paths = {
    "round": ("smooth", "completely_round"),
    "in_between": ("smooth", "in_between"),
    "cigar": ("smooth", "cigar_shaped"),
    "edge_on": (*_DISK, "edgeon_yes"),
    "spiral": (*_FACE_ON, "spiral"),
}

_FEATURED: Path = ("featured-or-disk",)
_NOT_CLUMPY: Path = ("features", "clumpy-appearance_no")
_BULGE, _ANY_BAR = ("rounded", "boxy"), ("bar_strong", "bar_weak")
_ARMS = "has-spiral-arms"

_SINCE_DECALS_5 = _nine(
    _smooth("how-rounded_round", "cigar-shaped"), _FEATURED, _BULGE, "edge-on-bulge_none", _ANY_BAR, "bar_no", _ARMS
)
_COMPLETELY = _smooth("completely", "cigar-shaped")
_DECALS_12_NINE = _nine(_COMPLETELY, _FEATURED, _BULGE, "edge-on-bulge_none", "bar_yes", "bar_no", _ARMS)
_HUBBLE_NINE = _nine(_COMPLETELY, _NOT_CLUMPY, _BULGE, "bulge-shape_none", "bar_yes", "bar_no", _ARMS)
_CANDELS_NINE = _nine(_COMPLETELY, _NOT_CLUMPY, "edge-on-bulge_yes", "edge-on-bulge_no", "bar_yes", "bar_no", _ARMS)

_GALAXY = ("smooth", "featured-or-disk")
_SPIRAL: Path = ("featured-or-disk", "disk-edge-on_no", "has-spiral-arms_yes")
_GALAXY10: Paths = {
    "disturbed": (_GALAXY, ("minor-disturbance", "major-disturbance")),
    "merging": (_GALAXY, "merger"),
    **_smooth("how-rounded_round", "cigar-shaped"),
    "barred_spiral": (*_SPIRAL, _ANY_BAR),
    "unbarred_tight_spiral": (*_SPIRAL, "bar_no", "tight"),
    "unbarred_loose_spiral": (*_SPIRAL, "bar_no", "loose"),
    "edge_on_no_bulge": ("featured-or-disk", "disk-edge-on_yes", "edge-on-bulge_none"),
    "edge_on_bulge": ("featured-or-disk", "disk-edge-on_yes", _BULGE),
}

BUILTIN_PATHS: Mapping[str, tuple[DecisionTree, Paths]] = {
    "gz2-9": (GZ2, _GZ2_NINE),
    "gz2-5": (GZ2, _GZ2_FIVE),
    "gz2-9-lens": (GZ2, {**_GZ2_NINE, "lens": ("odd_yes", "lens_or_arc")}),
    "gz-decals-12-9": (GZ_DECALS_12, _DECALS_12_NINE),
    "gz-decals-9": (GZ_DECALS, _SINCE_DECALS_5),
    "gz-decals-10": (GZ_DECALS, _GALAXY10),
    "gz-hubble-9": (GZ_HUBBLE, _HUBBLE_NINE),
    "gz-candels-9": (GZ_CANDELS, _CANDELS_NINE),
    "gz-cosmic-dawn-9": (GZ_COSMIC_DAWN, _SINCE_DECALS_5),
    "gz-cosmic-dawn-10": (GZ_COSMIC_DAWN, _GALAXY10),
    "gz-jwst-9": (GZ_JWST, _SINCE_DECALS_5),
    "gz-jwst-10": (GZ_JWST, _GALAXY10),
    "gz-euclid-9": (GZ_EUCLID, _SINCE_DECALS_5),
    "gz-euclid-10": (GZ_EUCLID, _GALAXY10),
    "gz-rings-2": (GZ_RINGS, {"ring": ("ring_yes",), "no_ring": ("ring_no",)}),
}
