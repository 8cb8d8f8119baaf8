"""Tests of the decision trees of Galaxy Zoo, against their published structure."""

import pickle

import numpy as np
import pytest

from raydistill.errors import ConfigError
from raydistill.galaxies.campaigns import CAMPAIGNS, COUNT, find_columns
from raydistill.galaxies.class_paths import BUILTIN_PATHS
from raydistill.galaxies.classes import BUILTIN_TREES, load_class_tree
from raydistill.galaxies.trees import GZ2, GZ_DECALS, GZ_EUCLID, TREES

# Columns and dependencies in galaxy-datasets (label_metadata): "question: answers < asked after".
PUBLISHED = {
    "galaxy-datasets": """
        smooth-or-featured-gz2: smooth featured-or-disk artifact
        disk-edge-on-gz2: yes no < smooth-or-featured-gz2_featured-or-disk
        has-spiral-arms-gz2: yes no < smooth-or-featured-gz2_featured-or-disk
        bar-gz2: yes no < smooth-or-featured-gz2_featured-or-disk
        bulge-size-gz2: dominant obvious just-noticeable no < smooth-or-featured-gz2_featured-or-disk
        something-odd-gz2: yes no
        how-rounded-gz2: round in-between cigar < smooth-or-featured-gz2_smooth
        bulge-shape-gz2: round boxy no-bulge < disk-edge-on-gz2_yes
        spiral-winding-gz2: tight medium loose < has-spiral-arms-gz2_yes
        spiral-arm-count-gz2: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms-gz2_yes
    """,
    "gz-ukidss": """
        smooth-or-featured-ukidss: smooth featured-or-disk artifact
        disk-edge-on-ukidss: yes no < smooth-or-featured-ukidss_featured-or-disk
        has-spiral-arms-ukidss: yes no < smooth-or-featured-ukidss_featured-or-disk
        bar-ukidss: yes no < smooth-or-featured-ukidss_featured-or-disk
        bulge-size-ukidss: dominant obvious just-noticeable no < smooth-or-featured-ukidss_featured-or-disk
        something-odd-ukidss: yes no
        how-rounded-ukidss: round in-between cigar < smooth-or-featured-ukidss_smooth
        bulge-shape-ukidss: round boxy no-bulge < disk-edge-on-ukidss_yes
        spiral-winding-ukidss: tight medium loose < has-spiral-arms-ukidss_yes
        spiral-arm-count-ukidss: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms-ukidss_yes
    """,
    "gz-decals-12": """
        smooth-or-featured-dr12: smooth featured-or-disk artifact
        disk-edge-on-dr12: yes no < smooth-or-featured-dr12_featured-or-disk
        has-spiral-arms-dr12: yes no < disk-edge-on-dr12_no
        bar-dr12: yes no < disk-edge-on-dr12_no
        bulge-size-dr12: dominant obvious none < disk-edge-on-dr12_no
        how-rounded-dr12: completely in-between cigar-shaped < smooth-or-featured-dr12_smooth
        edge-on-bulge-dr12: boxy none rounded < disk-edge-on-dr12_yes
        spiral-winding-dr12: tight medium loose < has-spiral-arms-dr12_yes
        spiral-arm-count-dr12: 1 2 3 4 more-than-4 < has-spiral-arms-dr12_yes
        merging-dr12: neither tidal-debris both merger
    """,
    "gz-decals-5": """
        smooth-or-featured-dr5: smooth featured-or-disk artifact
        disk-edge-on-dr5: yes no < smooth-or-featured-dr5_featured-or-disk
        has-spiral-arms-dr5: yes no < disk-edge-on-dr5_no
        bar-dr5: strong weak no < disk-edge-on-dr5_no
        bulge-size-dr5: dominant large moderate small none < disk-edge-on-dr5_no
        how-rounded-dr5: round in-between cigar-shaped < smooth-or-featured-dr5_smooth
        edge-on-bulge-dr5: boxy none rounded < disk-edge-on-dr5_yes
        spiral-winding-dr5: tight medium loose < has-spiral-arms-dr5_yes
        spiral-arm-count-dr5: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms-dr5_yes
        merging-dr5: none minor-disturbance major-disturbance merger
    """,
    "gz-decals-8": """
        smooth-or-featured-dr8: smooth featured-or-disk artifact
        disk-edge-on-dr8: yes no < smooth-or-featured-dr8_featured-or-disk
        has-spiral-arms-dr8: yes no < disk-edge-on-dr8_no
        bar-dr8: strong weak no < disk-edge-on-dr8_no
        bulge-size-dr8: dominant large moderate small none < disk-edge-on-dr8_no
        how-rounded-dr8: round in-between cigar-shaped < smooth-or-featured-dr8_smooth
        edge-on-bulge-dr8: boxy none rounded < disk-edge-on-dr8_yes
        spiral-winding-dr8: tight medium loose < has-spiral-arms-dr8_yes
        spiral-arm-count-dr8: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms-dr8_yes
        merging-dr8: none minor-disturbance major-disturbance merger
    """,
    "gz-cosmic-dawn": """
        smooth-or-featured-cd: smooth featured-or-disk problem
        disk-edge-on-cd: yes no < smooth-or-featured-cd_featured-or-disk
        has-spiral-arms-cd: yes no < disk-edge-on-cd_no
        bar-cd: strong weak no < disk-edge-on-cd_no
        bulge-size-cd: dominant large moderate small none < disk-edge-on-cd_no
        how-rounded-cd: round in-between cigar-shaped < smooth-or-featured-cd_smooth
        edge-on-bulge-cd: boxy none rounded < disk-edge-on-cd_yes
        spiral-winding-cd: tight medium loose < has-spiral-arms-cd_yes
        spiral-arm-count-cd: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms-cd_yes
        merging-cd: none minor-disturbance major-disturbance merger
        clumps-cd: yes no < disk-edge-on-cd_no
        problem-cd: star artifact zoom < smooth-or-featured-cd_problem
        artifact-cd: satellite scattered diffraction ray saturation other < problem-cd_artifact
    """,
    "gz-euclid": """
        smooth-or-featured-euclid: smooth featured-or-disk problem
        disk-edge-on-euclid: yes no < smooth-or-featured-euclid_featured-or-disk
        has-spiral-arms-euclid: yes no < disk-edge-on-euclid_no
        bar-euclid: strong weak no < disk-edge-on-euclid_no
        bulge-size-euclid: dominant large moderate small none < disk-edge-on-euclid_no
        how-rounded-euclid: round in-between cigar-shaped < smooth-or-featured-euclid_smooth
        edge-on-bulge-euclid: boxy none rounded < disk-edge-on-euclid_yes
        spiral-winding-euclid: tight medium loose < has-spiral-arms-euclid_yes
        spiral-arm-count-euclid: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms-euclid_yes
        merging-euclid: none minor-disturbance major-disturbance merger
        clumps-euclid: yes no < disk-edge-on-euclid_no
        problem-euclid: star artifact zoom < smooth-or-featured-euclid_problem
        artifact-euclid: satellite scattered diffraction ray saturation other ghost < problem-euclid_artifact
    """,
    "gz-jwst": """
        smooth-or-featured-jwst: smooth featured-or-disk star-artifact-zoom
        disk-edge-on-jwst: yes no < smooth-or-featured-jwst_featured-or-disk
        has-spiral-arms-jwst: yes no < disk-edge-on-jwst_no
        bar-jwst: strong weak no < disk-edge-on-jwst_no
        bulge-size-jwst: dominant large moderate small none < disk-edge-on-jwst_no
        how-rounded-jwst: round in-between cigar-shaped < smooth-or-featured-jwst_smooth
        edge-on-bulge-jwst: boxy none rounded < disk-edge-on-jwst_yes
        spiral-winding-jwst: tight medium loose < has-spiral-arms-jwst_yes
        spiral-arm-count-jwst: 1 2 3 4 more-than-4 cant-tell < has-spiral-arms-jwst_yes
        clumps-jwst: yes no
        merging-jwst: none minor-disturbance major-disturbance merger
        problem-jwst: star artifact bad-zoom < smooth-or-featured-jwst_star-artifact-zoom
    """,
    "gz-hubble": """
        smooth-or-featured-hubble: smooth features artifact
        how-rounded-hubble: completely in-between cigar-shaped < smooth-or-featured-hubble_smooth
        clumpy-appearance-hubble: yes no < smooth-or-featured-hubble_features
        disk-edge-on-hubble: yes no < clumpy-appearance-hubble_no
        bulge-shape-hubble: rounded boxy none < disk-edge-on-hubble_yes
        bar-hubble: yes no < disk-edge-on-hubble_no
        has-spiral-arms-hubble: yes no < disk-edge-on-hubble_no
        spiral-winding-hubble: tight medium loose < disk-edge-on-hubble_no
        spiral-arm-count-hubble: 1 2 3 4 5-plus cant-tell < disk-edge-on-hubble_no
        bulge-size-hubble: none just-noticeable obvious dominant < disk-edge-on-hubble_no
        galaxy-symmetrical-hubble: yes no < clumpy-appearance-hubble_yes
        clumps-embedded-larger-object-hubble: yes no < clumpy-appearance-hubble_yes
    """,
    "gz-candels": """
        smooth-or-featured-candels: smooth features artifact
        how-rounded-candels: completely in-between cigar-shaped < smooth-or-featured-candels_smooth
        clumpy-appearance-candels: yes no < smooth-or-featured-candels_features
        disk-edge-on-candels: yes no < clumpy-appearance-candels_no
        edge-on-bulge-candels: yes no < disk-edge-on-candels_yes
        bar-candels: yes no < disk-edge-on-candels_no
        has-spiral-arms-candels: yes no < disk-edge-on-candels_no
        spiral-winding-candels: tight medium loose < disk-edge-on-candels_no
        spiral-arm-count-candels: 1 2 3 4 5-plus cant-tell < disk-edge-on-candels_no
        bulge-size-candels: none obvious dominant < disk-edge-on-candels_no
        merging-candels: merger tidal-debris both neither
    """,
}

# Where the package departs from galaxy-datasets, which gives each question one answer to follow:
# GZ2 as in Willett et al. 2013, and "smooth or featured" for questions asked of every galaxy.
GALAXY, FEATURES = ("_smooth", "_featured-or-disk"), ("_smooth", "_features")
_GZ2 = dict.fromkeys(("bar", "has-spiral-arms", "bulge-size"), ("disk-edge-on_no",))
_ARMS = dict.fromkeys(("spiral-winding", "spiral-arm-count"), ("has-spiral-arms_yes",))
DEPARTURES: dict[str, dict[str, tuple[str, ...]]] = {
    "galaxy-datasets": _GZ2,
    "gz-ukidss": _GZ2,
    "gz-hubble": _ARMS,
    "gz-candels": {"merging": FEATURES, **_ARMS},
    "gz-jwst": {"merging": GALAXY, "clumps": GALAXY},
    **{f"gz-{name}": {"merging": GALAXY} for name in ("decals-12", "decals-5", "decals-8", "cosmic-dawn", "euclid")},
}


def published(campaign: str) -> dict[str, tuple[list[str], str]]:
    """Return the columns of each question, and the answer that leads to it."""
    questions = {}
    for line in PUBLISHED[campaign].split("\n"):
        head, _, asked_after = line.partition(" < ")
        question, _, answers = head.strip().partition(": ")
        if question:
            questions[question] = ([f"{question}_{answer}" for answer in answers.split()], asked_after)
    return questions


@pytest.mark.parametrize("campaign", PUBLISHED)
def test_answers_are_the_published_columns(campaign: str) -> None:
    tree, tag = CAMPAIGNS[campaign].tree, CAMPAIGNS[campaign].tag
    columns_of = [list(task.expected[COUNT]) for task in find_columns(tree, tag, ())]
    expected = [columns for columns, _ in published(campaign).values()]
    if tree == GZ2:  # its order is that of Willett et al. 2013, and galaxy-datasets lacks task 8
        del columns_of[7]
        assert sorted(map(sorted, columns_of)) == sorted(map(sorted, expected))
    else:
        assert columns_of == expected


@pytest.mark.parametrize("campaign", PUBLISHED)
def test_questions_follow_the_published_answers(campaign: str) -> None:
    tree, tag = CAMPAIGNS[campaign].tree, CAMPAIGNS[campaign].tag
    names = [task.expected[COUNT] for task in find_columns(tree, tag, ())]
    name_of = dict(zip(tree.answers, [name for names_of in names for name in names_of], strict=True))
    tasks = {names_of[0].partition("_")[0]: task for names_of, task in zip(names, tree.tasks, strict=True)}
    for question, (_, asked_after) in published(campaign).items():
        after = [name_of[stem] for stem in tasks[question].asked_after]
        expected = DEPARTURES[campaign].get(question.removesuffix(f"-{tag}"))
        if expected is None:
            assert after == ([asked_after] if asked_after else [])
        else:
            assert len(after) == len(expected)
            assert all(name.replace(f"-{tag}", "").endswith(end) for name, end in zip(after, expected, strict=True))


def test_trees_have_their_number_of_answers() -> None:
    counts = {name: len(tree.answers) for name, tree in TREES.items()}
    assert (counts["gz2"], counts["gz-decals-12"], counts["gz-decals"]) == (37, 30, 34)
    assert (counts["gz-hubble"], counts["gz-candels"], counts["gz-jwst"]) == (34, 32, 39)
    assert (counts["gz-cosmic-dawn"], counts["gz-euclid"]) == (45, 46)


@pytest.mark.parametrize("tree", TREES.values(), ids=list(TREES))
def test_questions_stand_after_those_that_lead_to_them(tree) -> None:
    assert len(set(tree.answers)) == len(tree.answers)
    for task in tree.tasks:
        assert all(tree.task_of[stem].number < task.number for stem in task.asked_after)
        assert tree.answers[tree.columns_of(task)] == tuple(answer.column for answer in task.answers)
    assert [tree.resolve(stem) for stem in tree.answers] == list(tree.answers)
    assert pickle.loads(pickle.dumps(tree)) == tree  # workers get it


@pytest.mark.parametrize("word", ["bar_strong", "bar strong", "Bar-Strong", "strong"])
def test_answers_of_other_surveys_have_several_spellings(word: str) -> None:
    assert GZ_DECALS.resolve(word) == "bar_strong"


def test_euclid_knows_the_names_of_its_catalogue() -> None:
    assert GZ_EUCLID.resolve("how_rounded_completely") == "how-rounded_round"
    assert GZ_EUCLID.resolve("artifact_star_zoom") == "smooth-or-featured_problem"


def test_wrong_answers_name_the_survey_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match="GZ DECaLS has no answer 'bar_stron'; did you mean 'bar_strong'"):
        GZ_DECALS.resolve("bar_stron")
    with pytest.raises(ConfigError, match="write one of: bulge-size_none, edge-on-bulge_none, merging_none"):
        GZ_DECALS.resolve("none")


# ---- builtin classes ----


@pytest.mark.parametrize("name", BUILTIN_PATHS)
def test_builtin_classes_belong_to_their_tree(name: str) -> None:
    classes = load_class_tree(name)
    assert classes is BUILTIN_TREES[name]
    assert classes.tree == BUILTIN_PATHS[name][0]
    assert name.startswith(classes.tree.name)
    lenses = name.endswith("-lens")  # a class beside the others
    assert len(classes.names) == int(name.removesuffix("-lens").rpartition("-")[2]) + lenses
    if name.endswith("-9"):
        assert classes.names == BUILTIN_TREES["gz2-9"].names


@pytest.mark.parametrize("name", [name for name in BUILTIN_PATHS if name.endswith("-9")])
def test_nine_classes_cover_all_galaxies_that_are_not_clumpy(name: str) -> None:
    """The classes partition the tree below smooth and disk.

    Their confidences sum to 1 - f(artifact), less those of clumpy galaxies if the tree asks for
    clumps.
    """
    classes = BUILTIN_TREES[name]
    rng = np.random.default_rng(0)
    votes = np.concatenate([rng.dirichlet(np.ones(len(task.answers)), size=20) for task in classes.tree.tasks], axis=1)
    expected = 1 - votes[:, 2]  # the third answer to the first question: artifact, problem
    if clumpy := classes.tree.index.get("clumpy-appearance_yes"):
        expected -= votes[:, 1] * votes[:, clumpy]
    np.testing.assert_allclose(classes.confidence(votes).sum(axis=1), expected, rtol=1e-12)


def test_file_of_classes_names_its_tree(tmp_path) -> None:
    path = tmp_path / "bars.yaml"
    text = "name: bars\n{}classes:\n  - {{name: strong, path: [featured-or-disk, disk-edge-on_no, bar_strong]}}\n"
    path.write_text(text.format("tree: gz-decals\n"))
    classes = load_class_tree(str(path))
    assert classes.tree == GZ_DECALS
    assert classes.classes[0].path == (("smooth-or-featured_featured-or-disk",), ("disk-edge-on_no",), ("bar_strong",))
    path.write_text(text.format("tree: gz-decal\n"))
    with pytest.raises(
        ConfigError, match=r"bars.yaml, tree: there is no decision tree 'gz-decal'; did you mean 'gz-decals'"
    ):
        load_class_tree(str(path))
    path.write_text(text.format(""))
    with pytest.raises(
        ConfigError,
        match=r"Galaxy Zoo 2 has no answer 'featured-or-disk'; .* Otherwise name the tree: tree: gz-decals or tree: gz-cosmic",
    ):
        load_class_tree(str(path))


def test_merger_needs_the_answers_that_lead_to_its_question(tmp_path) -> None:
    path = tmp_path / "mergers.yaml"
    path.write_text("tree: gz-decals\nclasses: [{name: merger, path: [merger]}]\n")
    with pytest.raises(
        ConfigError, match="'merging' is only asked after smooth-or-featured_smooth or smooth-or-featured_feat"
    ):
        load_class_tree(str(path))
    path.write_text("tree: gz-decals\nclasses: [{name: merger, path: [[smooth, featured-or-disk], merger]}]\n")
    votes = np.full((1, 34), np.nan)
    for word, fraction in {"smooth": 0.25, "featured-or-disk": 0.5, "merger": 0.5}.items():
        votes[0, GZ_DECALS.index[GZ_DECALS.resolve(word)]] = fraction
    assert load_class_tree(str(path)).confidence(votes)[0, 0] == 0.375
