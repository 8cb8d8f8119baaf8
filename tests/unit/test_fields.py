"""Keys that came after a release leave identities of older artifacts unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from raydistill.config import identity_part, plain
from raydistill.distillation.schedule import SelfAdaptive
from raydistill.fields import later


@dataclass(frozen=True)
class Images:
    root: str
    fill: str = later("none")


@dataclass(frozen=True)
class Survey:
    images: Images
    columns: dict[str, str] = later({})
    protocols: dict[str, Images] = field(default_factory=dict)
    others: tuple[Images, ...] = ()


@pytest.mark.parametrize(
    ("survey", "expected"),
    [
        (Survey(Images("a")), {"images": {"root": "a"}, "protocols": {}, "others": []}),
        (
            Survey(Images("a", fill="zero"), columns={"id": "x"}),
            {"images": {"root": "a", "fill": "zero"}, "columns": {"id": "x"}, "protocols": {}, "others": []},
        ),
        (
            Survey(Images("a"), protocols={"b": Images("b")}, others=(Images("c"), Images("d", "zero"))),
            {
                "images": {"root": "a"},
                "protocols": {"b": {"root": "b"}},
                "others": [{"root": "c"}, {"root": "d", "fill": "zero"}],
            },
        ),
    ],
)
def test_identity_leaves_out_later_keys_at_their_default(survey: Survey, expected: dict[str, Any]) -> None:
    assert identity_part(survey) == expected


def test_key_of_core_that_repeats_the_metadata_is_left_out_too() -> None:
    assert "effective_sample_size" not in identity_part(SelfAdaptive())
    assert identity_part(SelfAdaptive(effective_sample_size=True))["effective_sample_size"] is True


def test_plain_config_has_all_keys() -> None:
    assert plain(Images("a")) == {"root": "a", "fill": "none"}
