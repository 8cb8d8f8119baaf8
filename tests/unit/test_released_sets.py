"""The sets that come with raydistill are whole."""

from __future__ import annotations

import pytest

import raydistill as rd
from raydistill import shipped
from raydistill.exporting.card import Card, card_of
from raydistill.exporting.release import check_words


def card(name: str) -> Card:
    found = card_of(rd.open(name))
    assert found is not None
    return found


@pytest.mark.parametrize("name", shipped.set_names())
def test_set_is_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDISTILL_DATA", "nowhere")
    distilled, own = rd.open(name), card(name)
    check_words(own.config, own.overrides)
    config = rd.load_config(own.config, *own.overrides)
    assert list(distilled.counts) == [config.distill.images_per_class] * len(distilled.class_names)
    assert own.network == config.network.name
    assert own.protocol in config.evaluate.protocols
    assert own.cpu_seconds["distilled"] > 0
