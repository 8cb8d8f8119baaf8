"""The sets that come with raydistill are whole."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

import raydistill as rd
from raydistill import shipped
from raydistill.errors import ArtifactMissing, ConfigError
from raydistill.exporting.release import check_words
from raydistill.stages.distill.card import Card
from raydistill.statistics.intervals import Interval, mean_interval

ROOT = Path(__file__).parents[2]
TEST_SHARE = 0.25 / 0.6  # of the splits of these surveys


def card(name: str) -> Card:
    found = rd.open(name).card
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


@pytest.mark.parametrize(
    ("word", "fits"),
    [
        ("distill.image_step.lr=0.05", True),
        ("evaluate.protocols.paper.training={epochs: 100, momentum: .5}", True),
        ("survey.num_galaxies=500", True),
        ("survey.kind=simulated", True),
        ("extends=[parts/heads, methods/datm]", True),
        ("output=elsewhere", False),
        ("resources.cpus=1000", False),
        ("distilled=other", False),
        ("survey.catalog=secret", False),
        ("survey={kind: catalog, catalog: secret}", False),
        ("curate.exclude={where: 'x > 0.5', table: secret}", False),
        ("experts.source=votes.csv", False),
        ("experts.source=~", False),
    ],
)
def test_card_changes_figures_alone(word: str, fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(ConfigError, match="names a file or code"):
        check_words("demo", [word])


def test_unknown_name_says_where_the_names_are() -> None:
    with pytest.raises(ArtifactMissing, match="no released set of this name; check it; `raydistill sets` lists"):
        rd.open("gz2_kaggle5_ipc1")


def over_splits(config: str) -> dict[str, Interval]:
    """Return the balanced accuracies on the cards of a config, over its splits."""
    cards = [own for own in map(card, shipped.set_names()) if own.config == config]
    assert len(cards) == 3
    means = {"distilled": [own.balanced_accuracy.mean for own in cards]}
    means |= {name: [own.others[name].mean for own in cards] for name in cards[0].others}
    return {name: mean_interval([one for one in of if one is not None], TEST_SHARE) for name, of in means.items()}


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
