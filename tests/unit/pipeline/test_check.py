"""Values that do not go together are refused before anything runs."""

from __future__ import annotations

import pytest
from torch import nn

from raydistill.config import load
from raydistill.errors import ConfigError
from raydistill.pipeline.plan import check
from tests import zoo

TURNED = "evaluate.dm.augmentation={operations: [dihedral], shared: true}"
OWN = f"network={{kind: custom, factory: '{__name__}:"


def pooled(num_classes: int, image_size: int, channels: int) -> nn.Module:
    """No linear layer at all."""
    return nn.Sequential(nn.Conv2d(channels, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def forgetful(num_classes: int, image_size: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), zoo.Noise(), nn.Linear(channels * image_size**2, num_classes))


@pytest.mark.parametrize(
    ("words", "key", "sentence"),
    [
        ([OWN + "pooled'}", "evaluate.baselines=[dm]"], "network", "no last linear layer whose input could be its features"),
        ([OWN + "forgetful'}"], "network", "the network draws random numbers"),
        (["evaluate.other_networks=[" + OWN.partition("=")[2] + "forgetful'}]"], "evaluate.other_networks.0", "draws random numbers"),
        (["curate.align=true", TURNED], "evaluate.dm.augmentation", "turns them away"),
    ],
)  # fmt: skip
def test_what_would_fail_hours_later_is_refused_at_once(words: list[str], key: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        check(load("demo", words))
    assert caught.value.where == key
    assert caught.value.exit_code == 2


def test_a_network_without_features_is_fine_where_none_are_wanted() -> None:
    check(load("demo", [OWN + "pooled'}"]))
