"""The decision trees of Galaxy Zoo's surveys, as data.

| tree | surveys | questions, answers |
|---|---|---|
| `gz2` | Galaxy Zoo 2, GZ UKIDSS | 11, 37 |
| `gz-decals-12` | GZ DECaLS, campaigns 1 and 2 | 10, 30 |
| `gz-decals` | GZ DECaLS, campaigns 5 and 8; GZ DESI | 10, 34 |
| `gz-hubble` | GZ Hubble, without the questions about single clumps | 12, 34 |
| `gz-candels` | GZ CANDELS, without the questions about single clumps | 11, 32 |
| `gz-cosmic-dawn` | GZ Cosmic Dawn | 13, 45 |
| `gz-jwst` | GZ JWST | 12, 39 |
| `gz-euclid` | GZ Euclid | 13, 46 |
| `gz-rings` | GZ Rings, which asks for rings alone | 1, 2 |

Names and order of questions and answers are those of galaxy-datasets (`label_metadata`), whose
tables they head. It gives one answer to lead to a question, and none for `merging` and GZ JWST's
`clumps`. Both are asked after every answer but "artifact". In GZ Hubble and GZ CANDELS, the arms
are counted after "spiral", not after every disk that is not edge-on.

References
----------
GZ DECaLS: Walmsley et al. 2022, MNRAS 509, 3966, arXiv:2102.08414.
GZ DESI: Walmsley et al. 2023, MNRAS 526, 4768, arXiv:2309.11425.
GZ Hubble: Willett et al. 2017, MNRAS 464, 4176, arXiv:1610.03068.
GZ CANDELS: Simmons et al. 2017, MNRAS 464, 4420, arXiv:1610.03070.
GZ Euclid: Walmsley et al. 2025, arXiv:2503.15310.
"""

from __future__ import annotations

from collections.abc import Mapping

from raydistill.galaxies.tree import Answer, DecisionTree, Task

# The Galaxy Zoo 2 decision tree: 11 tasks, 37 answers.
#
# The tree is Table 2 of Willett et al. 2013 (MNRAS 435, 2835, arXiv:1308.3496); the column stems are
# those of the public release. Its numbering is irregular: there is no answer 35, and answer 38 (dust
# lane) belongs to task 8.


def _task(number: int, key: str, answers: Mapping[int, str], asked_after: tuple[str, ...] = ()) -> Task:
    columns = (Answer(answer, f"t{number:02d}_{key}_a{a:02d}_{answer}", a) for a, answer in answers.items())
    return Task(number, key, tuple(columns), asked_after)


_GZ2_SMOOTH = "t01_smooth_or_features_a01_smooth"
_GZ2_FEATURES = "t01_smooth_or_features_a02_features_or_disk"
_GZ2_EDGE_ON = "t02_edgeon_a04_yes"
_NOT_EDGE_ON = "t02_edgeon_a05_no"
_GZ2_SPIRAL = "t04_spiral_a08_spiral"
_ODD = "t06_odd_a14_yes"

# Tasks 3, 4 and 5 follow one another without a branch, and so do 10 and 11. The deciding answers
# are "not edge-on" and "spiral" (Willett et al. 2013, Fig. 1).
_TASKS = (
    _task(1, "smooth_or_features", {1: "smooth", 2: "features_or_disk", 3: "star_or_artifact"}),
    _task(2, "edgeon", {4: "yes", 5: "no"}, (_GZ2_FEATURES,)),
    _task(3, "bar", {6: "bar", 7: "no_bar"}, (_NOT_EDGE_ON,)),
    _task(4, "spiral", {8: "spiral", 9: "no_spiral"}, (_NOT_EDGE_ON,)),
    _task(
        5, "bulge_prominence", {10: "no_bulge", 11: "just_noticeable", 12: "obvious", 13: "dominant"}, (_NOT_EDGE_ON,)
    ),
    _task(6, "odd", {14: "yes", 15: "no"}),
    _task(7, "rounded", {16: "completely_round", 17: "in_between", 18: "cigar_shaped"}, (_GZ2_SMOOTH,)),
    _task(
        8,
        "odd_feature",
        {
            19: "ring",
            20: "lens_or_arc",
            21: "disturbed",
            22: "irregular",
            23: "other",
            24: "merger",
            38: "dust_lane",
        },
        (_ODD,),
    ),
    _task(9, "bulge_shape", {25: "rounded", 26: "boxy", 27: "no_bulge"}, (_GZ2_EDGE_ON,)),
    _task(10, "arms_winding", {28: "tight", 29: "medium", 30: "loose"}, (_GZ2_SPIRAL,)),
    _task(11, "arms_number", {31: "1", 32: "2", 33: "3", 34: "4", 36: "more_than_4", 37: "cant_tell"}, (_GZ2_SPIRAL,)),
)

# Table 3 of Willett et al. 2013: the votes of a task are reliable if the fraction of the preceding
# answer exceeds this value, for galaxies with at least 10 or 20 votes on the task. Tasks 1 and 6
# are asked of everybody.
_THRESHOLDS = {
    "n10": {2: 0.227, 3: 0.519, 4: 0.519, 5: 0.519, 7: 0.263, 8: 0.223, 9: 0.326, 10: 0.402, 11: 0.402},
    "n20": {2: 0.430, 3: 0.715, 4: 0.715, 5: 0.715, 7: 0.469, 8: 0.420, 9: 0.602, 10: 0.619, 11: 0.619},
}

GZ2 = DecisionTree("gz2", "Galaxy Zoo 2", _TASKS, _THRESHOLDS)


# question -> (the answers that lead to it, its answers). A bar separates spellings of one answer.
Questions = Mapping[str, tuple[str, str]]

_DISK = "smooth-or-featured_featured-or-disk"
_SMOOTH = "smooth-or-featured_smooth"
_GALAXY = f"{_SMOOTH} {_DISK}"
_EDGE_ON, _FACE_ON, _SPIRAL = "disk-edge-on_yes", "disk-edge-on_no", "has-spiral-arms_yes"


def _tree(name: str, title: str, questions: Questions) -> DecisionTree:
    tasks = []
    for number, (key, (asked_after, words)) in enumerate(questions.items(), start=1):
        spellings = [word.split("|") for word in words.split()]
        answers = tuple(Answer(spelling[0], f"{key}_{spelling[0]}", also=tuple(spelling[1:])) for spelling in spellings)
        tasks.append(Task(number, key, answers, tuple(asked_after.split())))
    return DecisionTree(name, title, tuple(tasks))


_SINCE_GZD_5: Questions = {
    "disk-edge-on": (_DISK, "yes no"),
    "has-spiral-arms": (_FACE_ON, "yes no"),
    "bar": (_FACE_ON, "strong weak no"),
    "bulge-size": (_FACE_ON, "dominant large moderate small none"),
    "how-rounded": (_SMOOTH, "round in-between cigar-shaped"),
    "edge-on-bulge": (_EDGE_ON, "boxy none rounded"),
    "spiral-winding": (_SPIRAL, "tight medium loose"),
    "spiral-arm-count": (_SPIRAL, "1 2 3 4 more-than-4 cant-tell"),
}
_MERGING: Questions = {"merging": (_GALAXY, "none minor-disturbance major-disturbance merger")}

GZ_DECALS = _tree(
    "gz-decals",
    "GZ DECaLS",
    {"smooth-or-featured": ("", "smooth featured-or-disk artifact"), **_SINCE_GZD_5, **_MERGING},
)

GZ_DECALS_12 = _tree(
    "gz-decals-12",
    "GZ DECaLS 1 and 2",
    {
        "smooth-or-featured": ("", "smooth featured-or-disk artifact"),
        "disk-edge-on": (_DISK, "yes no"),
        "has-spiral-arms": (_FACE_ON, "yes no"),
        "bar": (_FACE_ON, "yes no"),
        "bulge-size": (_FACE_ON, "dominant obvious none"),
        "how-rounded": (_SMOOTH, "completely in-between cigar-shaped"),
        "edge-on-bulge": (_EDGE_ON, "boxy none rounded"),
        "spiral-winding": (_SPIRAL, "tight medium loose"),
        "spiral-arm-count": (_SPIRAL, "1 2 3 4 more-than-4"),
        "merging": (_GALAXY, "neither tidal-debris both merger"),
    },
)

GZ_COSMIC_DAWN = _tree(
    "gz-cosmic-dawn",
    "GZ Cosmic Dawn",
    {
        "smooth-or-featured": ("", "smooth featured-or-disk problem"),
        **_SINCE_GZD_5,
        **_MERGING,
        "clumps": (_FACE_ON, "yes no"),
        "problem": ("smooth-or-featured_problem", "star artifact zoom"),
        "artifact": ("problem_artifact", "satellite scattered diffraction ray saturation other"),
    },
)

# The second spellings are those of the MER catalogue of Euclid's Q1 release.
GZ_EUCLID = _tree(
    "gz-euclid",
    "GZ Euclid",
    {
        "smooth-or-featured": ("", "smooth featured-or-disk problem|artifact-star-zoom"),
        **_SINCE_GZD_5,
        "how-rounded": (_SMOOTH, "round|completely in-between cigar-shaped"),
        **_MERGING,
        "clumps": (_FACE_ON, "yes no"),
        "problem": ("smooth-or-featured_problem", "star artifact zoom"),
        "artifact": ("problem_artifact", "satellite scattered diffraction ray saturation other ghost"),
    },
)

GZ_JWST = _tree(
    "gz-jwst",
    "GZ JWST",
    {
        "smooth-or-featured": ("", "smooth featured-or-disk star-artifact-zoom"),
        **_SINCE_GZD_5,
        "clumps": (_GALAXY, "yes no"),
        **_MERGING,
        "problem": ("smooth-or-featured_star-artifact-zoom", "star artifact bad-zoom"),
    },
)

_FEATURES = "smooth-or-featured_features"
_NOT_CLUMPY, _CLUMPY = "clumpy-appearance_no", "clumpy-appearance_yes"

GZ_HUBBLE = _tree(
    "gz-hubble",
    "GZ Hubble",
    {
        "smooth-or-featured": ("", "smooth features artifact"),
        "how-rounded": (_SMOOTH, "completely in-between cigar-shaped"),
        "clumpy-appearance": (_FEATURES, "yes no"),
        "disk-edge-on": (_NOT_CLUMPY, "yes no"),
        "bulge-shape": (_EDGE_ON, "rounded boxy none"),
        "bar": (_FACE_ON, "yes no"),
        "has-spiral-arms": (_FACE_ON, "yes no"),
        "spiral-winding": (_SPIRAL, "tight medium loose"),
        "spiral-arm-count": (_SPIRAL, "1 2 3 4 5-plus cant-tell"),
        "bulge-size": (_FACE_ON, "none just-noticeable obvious dominant"),
        "galaxy-symmetrical": (_CLUMPY, "yes no"),
        "clumps-embedded-larger-object": (_CLUMPY, "yes no"),
    },
)

GZ_CANDELS = _tree(
    "gz-candels",
    "GZ CANDELS",
    {
        "smooth-or-featured": ("", "smooth features artifact"),
        "how-rounded": (_SMOOTH, "completely in-between cigar-shaped"),
        "clumpy-appearance": (_FEATURES, "yes no"),
        "disk-edge-on": (_NOT_CLUMPY, "yes no"),
        "edge-on-bulge": (_EDGE_ON, "yes no"),
        "bar": (_FACE_ON, "yes no"),
        "has-spiral-arms": (_FACE_ON, "yes no"),
        "spiral-winding": (_SPIRAL, "tight medium loose"),
        "spiral-arm-count": (_SPIRAL, "1 2 3 4 5-plus cant-tell"),
        "bulge-size": (_FACE_ON, "none obvious dominant"),
        "merging": (f"{_SMOOTH} {_FEATURES}", "merger tidal-debris both neither"),
    },
)

GZ_RINGS = _tree("gz-rings", "GZ Rings", {"ring": ("", "yes no")})

TREES: Mapping[str, DecisionTree] = {
    tree.name: tree
    for tree in (GZ2, GZ_DECALS_12, GZ_DECALS, GZ_HUBBLE, GZ_CANDELS, GZ_COSMIC_DAWN, GZ_JWST, GZ_EUCLID, GZ_RINGS)
}
