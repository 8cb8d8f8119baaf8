"""The Galaxy Zoo 2 decision tree: 11 tasks, 37 answers.

The tree is Table 2 of Willett et al. 2013 (MNRAS 435, 2835, arXiv:1308.3496); the column stems are
those of the public release. Its numbering is irregular: there is no answer 35, and answer 38 (dust
lane) belongs to task 8.
"""

from __future__ import annotations

from collections.abc import Mapping

from raydistill.galaxies.tree import Answer, DecisionTree, Task


def _task(number: int, key: str, answers: Mapping[int, str], asked_after: tuple[str, ...] = ()) -> Task:
    columns = (Answer(answer, f"t{number:02d}_{key}_a{a:02d}_{answer}", a) for a, answer in answers.items())
    return Task(number, key, tuple(columns), asked_after)


_SMOOTH = "t01_smooth_or_features_a01_smooth"
_FEATURES = "t01_smooth_or_features_a02_features_or_disk"
_EDGE_ON = "t02_edgeon_a04_yes"
_NOT_EDGE_ON = "t02_edgeon_a05_no"
_SPIRAL = "t04_spiral_a08_spiral"
_ODD = "t06_odd_a14_yes"

# Tasks 3, 4 and 5 follow one another without a branch, and so do 10 and 11. The deciding answers
# are "not edge-on" and "spiral" (Willett et al. 2013, Fig. 1).
_TASKS = (
    _task(1, "smooth_or_features", {1: "smooth", 2: "features_or_disk", 3: "star_or_artifact"}),
    _task(2, "edgeon", {4: "yes", 5: "no"}, (_FEATURES,)),
    _task(3, "bar", {6: "bar", 7: "no_bar"}, (_NOT_EDGE_ON,)),
    _task(4, "spiral", {8: "spiral", 9: "no_spiral"}, (_NOT_EDGE_ON,)),
    _task(
        5, "bulge_prominence", {10: "no_bulge", 11: "just_noticeable", 12: "obvious", 13: "dominant"}, (_NOT_EDGE_ON,)
    ),
    _task(6, "odd", {14: "yes", 15: "no"}),
    _task(7, "rounded", {16: "completely_round", 17: "in_between", 18: "cigar_shaped"}, (_SMOOTH,)),
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
    _task(9, "bulge_shape", {25: "rounded", 26: "boxy", 27: "no_bulge"}, (_EDGE_ON,)),
    _task(10, "arms_winding", {28: "tight", 29: "medium", 30: "loose"}, (_SPIRAL,)),
    _task(11, "arms_number", {31: "1", 32: "2", 33: "3", 34: "4", 36: "more_than_4", 37: "cant_tell"}, (_SPIRAL,)),
)

# Table 3 of Willett et al. 2013: the votes of a task are reliable if the fraction of the preceding
# answer exceeds this value, for galaxies with at least 10 or 20 votes on the task. Tasks 1 and 6
# are asked of everybody.
_THRESHOLDS = {
    "n10": {2: 0.227, 3: 0.519, 4: 0.519, 5: 0.519, 7: 0.263, 8: 0.223, 9: 0.326, 10: 0.402, 11: 0.402},
    "n20": {2: 0.430, 3: 0.715, 4: 0.715, 5: 0.715, 7: 0.469, 8: 0.420, 9: 0.602, 10: 0.619, 11: 0.619},
}

GZ2 = DecisionTree("gz2", "Galaxy Zoo 2", _TASKS, _THRESHOLDS)
