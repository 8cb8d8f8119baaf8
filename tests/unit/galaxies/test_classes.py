"""Tests of classes: path products, on hand-made votes and simulated volunteers."""

import numpy as np
import pytest

from raydistill.errors import ConfigError
from raydistill.galaxies.classes import GZ2_FIVE, GZ2_NINE, ClassTree, GalaxyClass, load_class_tree
from raydistill.galaxies.trees import GZ2


def votes_with(**fractions: float) -> np.ndarray:
    votes = np.full((1, 37), np.nan)
    for word, fraction in fractions.items():
        votes[0, GZ2.index[GZ2.resolve(word)]] = fraction
    return votes


def random_votes(num: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    votes = np.empty((num, 37))
    for task in GZ2.tasks:
        votes[:, GZ2.columns_of(task)] = rng.dirichlet(np.ones(len(task.answers)), size=num)
    return votes


def test_confidence_is_the_product_along_the_path_and_adds_alternatives():
    votes = votes_with(features_or_disk=0.8, edgeon_yes=0.5, rounded=0.3, boxy=0.2, bulge_shape_no_bulge=0.5)
    confidence = GZ2_NINE.confidence(votes)[0]
    assert confidence[3] == pytest.approx(0.8 * 0.5 * (0.3 + 0.2))
    assert confidence[4] == pytest.approx(0.8 * 0.5 * 0.5)
    assert (np.delete(confidence, [3, 4]) == 0).all()  # NaN (no volunteer was asked) counts as 0


def test_nine_classes_cover_all_galaxies_except_artifacts():
    """The classes partition the tree below smooth and disk.

    Their confidences therefore sum to 1 - f(artifact).
    """
    votes = random_votes(50)
    total = GZ2_NINE.confidence(votes).sum(axis=1)
    np.testing.assert_allclose(total, 1 - votes[:, GZ2.index[GZ2.resolve("star_or_artifact")]], rtol=1e-12)


def test_confidence_is_the_probability_of_a_volunteers_path():
    votes, rng, num_volunteers = random_votes(1, seed=3)[0], np.random.default_rng(1), 20_000
    answers = {t.number: rng.choice(len(t.answers), num_volunteers, p=votes[GZ2.columns_of(t)]) for t in GZ2.tasks}
    # disk, not edge-on, bar, spiral: answers 2, 5, 6, 8
    followed = (answers[1] == 1) & (answers[2] == 1) & (answers[3] == 0) & (answers[4] == 0)
    expected = GZ2_NINE.confidence(votes[None])[0, GZ2_NINE.names.index("bar_spiral")]
    assert abs(followed.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / num_volunteers)


def test_probabilities_of_a_small_tree_match_a_hand_calculation():
    path = ("features_or_disk", "edgeon_no")
    tree = ClassTree(
        "small",
        (
            GalaxyClass("round", (("smooth",), ("completely_round", "in_between"))),
            GalaxyClass("barred", (*((step,) for step in path), ("bar",))),
            GalaxyClass("unbarred", (*((step,) for step in path), ("no_bar",))),
        ),
    )
    face_on = votes_with(
        smooth=0.25, completely_round=0.5, in_between=0.25, features_or_disk=0.5, edgeon_no=0.5, bar=0.75, no_bar=0.25
    )
    smooth = votes_with(smooth=0.5, in_between=1.0)
    # 3/16 : 3/16 : 1/16, exact in float64; cigars, artifacts and edge-on disks are distributed in proportion
    p = tree.probabilities(np.concatenate([face_on, smooth]))
    assert p.dtype == np.float64
    np.testing.assert_array_equal(p, [[3 / 7, 3 / 7, 1 / 7], [1, 0, 0]])


@pytest.mark.parametrize("tree", [GZ2_NINE, GZ2_FIVE])
def test_probabilities_sum_to_one_and_agree_with_the_largest_product(tree: ClassTree):
    votes = random_votes(200, seed=5)
    p = tree.probabilities(votes)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_array_equal(p.argmax(axis=1), tree.confidence(votes).argmax(axis=1))


def test_galaxy_without_confidence_has_no_probabilities():
    with pytest.raises(ValueError, match="row 1 lead to none of the classes"):
        GZ2_NINE.probabilities(np.concatenate([votes_with(smooth=1.0, in_between=1.0), votes_with(smooth=1.0)]))


def test_debiased_alternatives_above_one_are_clipped():
    votes = votes_with(features_or_disk=1.0, edgeon_yes=1.0, rounded=0.9, boxy=0.8)
    assert GZ2_NINE.confidence(votes)[0, 3] == 1.0


def test_builtin_trees_have_the_documented_order():
    assert len(GZ2_NINE.names) == 9
    assert GZ2_NINE.names[:3] == ("smooth_round", "smooth_in_between", "smooth_cigar")
    assert GZ2_NINE.names[5:] == ("bar_spiral", "bar_no_spiral", "no_bar_spiral", "no_bar_no_spiral")
    assert load_class_tree("gz2-9") is GZ2_NINE
    assert load_class_tree("gz2-5").names == ("round", "in_between", "cigar", "edge_on", "spiral")


def test_tree_from_yaml_gives_the_confidences_of_the_builtin_tree(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text(
        "name: mine\n"
        "classes:\n"
        "  - {name: edge_on, path: [features_or_disk, a04]}\n"
        "  - {name: two_arms, path: [features_or_disk, edgeon_no, spiral, a32]}\n"
        "  - {name: bulgy, path: [features_or_disk, edgeon_yes, [rounded, boxy]]}\n"
    )
    tree = load_class_tree(str(path))
    assert tree.names == ("edge_on", "two_arms", "bulgy")
    assert all(stem in GZ2.answers for c in tree.classes for step in c.path for stem in step)
    votes = random_votes(5)
    np.testing.assert_array_equal(tree.confidence(votes)[:, 0], GZ2_FIVE.confidence(votes)[:, 3])
    np.testing.assert_array_equal(tree.confidence(votes)[:, 2], GZ2_NINE.confidence(votes)[:, 3])


def test_yes_and_no_can_be_class_names(tmp_path):
    (tmp_path / "tree.yaml").write_text("name: bars\nclasses: [{name: no}, yes]\n")
    assert load_class_tree(str(tmp_path / "tree.yaml")).names == ("no", "yes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [{name: a, path: [smoth]}]", "did you mean 'smooth'"),
        ("classes: [{name: a, path: [yes]}]", "ambiguous"),
        ("classes: [{name: a, path: [smooth], paht: 1}]", "did you mean 'path'"),
        ("klasses: []", "list 'classes'"),
        ("classes: [{path: [smooth]}]", "'name'"),
        ("classes: [{name: a, path: [smooth]}, {name: a}]", "two classes are called 'a'"),
        ("classes: [{name: a, path: [smooth, features_or_disk]}]", "in two steps"),
        ("classes: [{name: a, path: [[smooth, bar]]}]", "different questions"),
        ("classes: [{name: a, path: [[]]}]", "empty"),
        ("classes: [", "not valid YAML"),
        ("classes: [2024-02-30, b]", "not valid YAML"),
    ],
)
def test_wrong_tree_gives_one_sentence_with_its_file(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_class_tree(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ([["merger"]], "'odd_feature' is only asked after t06_odd_a14_yes"),
        ([["spiral"], ["features_or_disk"]], "'spiral' is only asked after t02_edgeon_a05_no"),
        (
            [["completely_round"], ["features_or_disk"]],
            "'rounded' is only asked after t01_smooth_or_features_a01_smooth",
        ),
    ],
)
def test_path_needs_the_answers_that_lead_to_its_questions(path: list[list[str]], missing: str) -> None:
    """2 % of volunteers may call a smooth galaxy odd.

    All of these may answer "merger".
    """
    with pytest.raises(ConfigError, match=f"{missing}, which is not in the path; add it before that step"):
        GalaxyClass("rare", tuple(map(tuple, path)))


def test_unknown_names_and_missing_files():
    with pytest.raises(ConfigError, match="did you mean 'gz2-9'"):
        load_class_tree("gz2_9")
    with pytest.raises(ConfigError, match="this class tree cannot be opened"):
        load_class_tree("absent.yaml")


def test_class_without_a_path_rejects_votes():
    tree = ClassTree("labels", (GalaxyClass("cat"), GalaxyClass("dog")))
    with pytest.raises(ConfigError, match="no path"):
        tree.confidence(random_votes(1))
    with pytest.raises(ValueError, match="37"):
        GZ2_NINE.confidence(np.zeros((2, 36)))


def test_list_of_names_is_a_tree_without_paths() -> None:
    tree = load_class_tree(["cat", 3])
    assert tree.names == ("cat", "3")
    assert not any(galaxy_class.path for galaxy_class in tree.classes)
    with pytest.raises(ConfigError, match="two classes are called 'cat'"):
        load_class_tree(["cat", "cat"])
