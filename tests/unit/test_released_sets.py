"""The sets that come with raydistill are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

import raydistill as rd
from raydistill import shipped
from raydistill.exporting.card import Card, card_of
from raydistill.exporting.release import check_words
from raydistill.statistics.intervals import Interval, mean_interval

ROOT = Path(__file__).parents[2]


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


def over_splits(config: str) -> dict[str, Interval]:
    """Return the balanced accuracies on the cards of a config, over its splits."""
    cards = [own for own in map(card, shipped.set_names()) if own.config == config]
    assert len(cards) == 3
    means = {"distilled": [own.balanced_accuracy.mean for own in cards]}
    means |= {name: [own.others[name].mean for own in cards] for name in cards[0].others}
    return {name: mean_interval([one for one in of if one is not None]) for name, of in means.items()}


@pytest.mark.parametrize("config", ["gz2_kaggle5", "gz2_kaggle5_ipc10"])
def test_results_are_those_of_the_cards(config: str) -> None:
    results = (ROOT / "docs" / "results.md").read_text().replace("*", "")
    for name, of in over_splits(config).items():
        text = f"{of.value:.3f} ± {of.high - of.value:.3f}".replace("0.", ".")
        assert f"| {text} |" in results, f"{config}, {name}"


def test_readme_says_what_the_cards_say() -> None:
    readme, figures = (ROOT / "README.md").read_text(), over_splits("gz2_kaggle5_ipc10")
    for name in ("distilled", "random_real", "experts"):
        of = figures[name]
        assert f"{100 * of.value:.0f} ± {100 * (of.high - of.value):.0f} %" in readme, name
