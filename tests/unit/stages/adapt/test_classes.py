"""Classes of two surveys match by name or config; anything else is an error."""

from __future__ import annotations

import pytest

from raydistill.errors import ArtifactIncompatible, ConfigError
from raydistill.stages.adapt.opening import check_shared, match_classes


@pytest.mark.parametrize(
    ("renamed", "sentence"),
    [
        ({"lens": "round"}, "the source has no class 'bright' of the target; .*or set bright: null"),
        ({"bright": "rounds"}, "adapt.classes.bright: the source has no class 'rounds'; did you mean 'round'"),
        ({"lense": None}, "the target has no class 'lense'; did you mean 'lens'"),
    ],
)
def test_unmatched_classes_are_an_error(renamed: dict[str, str | None], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        match_classes(["round", "spiral"], ["round", "bright", "lens"], renamed)


def test_classes_are_matched_by_name_then_by_the_config() -> None:
    renamed = {"bright": "round", "lens": None}
    assert match_classes(["spiral", "round"], ["round", "bright", "lens"], renamed) == (1, 1, -1)


def test_names_of_classes_match_in_any_form_of_an_accent() -> None:
    assert match_classes(["rond", "barr\xe9"], ["barre\u0301", "autre"], {"autre": "rond\u200b"}) == (1, 0)


@pytest.mark.parametrize(("num_shared", "words"), [(0, "0 classes"), (1, "1 class")])
def test_a_comparison_needs_two_shared_classes(num_shared: int, words: str) -> None:
    with pytest.raises(ArtifactIncompatible, match=f"here: its train and test galaxies share {words} with the source"):
        check_shared(num_shared, "here")
    check_shared(2, "here")
