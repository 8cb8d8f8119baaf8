"""Classes of two surveys are matched by name, or by the config; anything else is an error."""

from __future__ import annotations

import pytest

from raydistill.errors import ConfigError
from raydistill.pipeline.adapt.opening import match_classes


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
