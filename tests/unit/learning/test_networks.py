"""Networks as functions of one flat vector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raydistill.config import sources
from raydistill.distillation.engines import Adjoint, Unrolled
from raydistill.distillation.matching import Matcher
from raydistill.learning.architectures import MLP, VGG11, AlexNet, ConvNet, Custom, ResNet18, ViT
from raydistill.learning.augment import Augmentation
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import Layout, Network, build_network, check_network, embedding, initial_parameters
from tests import zoo

ARCHITECTURES = pytest.mark.parametrize("architecture", zoo.NETWORKS.values(), ids=zoo.NETWORKS)


def test_network_of_the_paper_has_its_number_of_parameters() -> None:
    assert build_network(ConvNet(), 9, 128).layout.num_parameters == 594_441  # arXiv:2311.17967
    assert build_network(ConvNet(), 10, 32).layout.num_parameters == 320_010  # the literature's CIFAR-10 ConvNet


@ARCHITECTURES
def test_flat_function_equals_the_module(architecture: Any) -> None:
    network, images = build_network(architecture, zoo.CLASSES, zoo.SIZE), zoo.normal(0, 5, 3, 8, 8).float()
    theta = initial_parameters(network, 3)
    module = architecture.module(zoo.CLASSES, zoo.SIZE)
    module.load_state_dict(network.layout.split(theta))
    torch.testing.assert_close(network(theta, images), module(images), rtol=0, atol=0)
    assert network(theta, images).shape == (5, zoo.CLASSES)


@ARCHITECTURES
def test_flatten_undoes_split(architecture: Any) -> None:
    layout = build_network(architecture, zoo.CLASSES, zoo.SIZE).layout
    theta = torch.arange(layout.num_parameters).float()
    assert torch.equal(layout.flatten(layout.split(theta)), theta)
    assert layout.num_parameters == sum(layout.sizes)


def test_split_returns_views() -> None:
    layout = Layout(("a", "b"), ((2, 2), (3,)))
    theta = torch.zeros(7)
    layout.split(theta)["b"][1] = 5
    assert theta.tolist() == [0, 0, 0, 0, 0, 5, 0]


@ARCHITECTURES
def test_initial_parameters_depend_on_the_seed_alone(architecture: Any) -> None:
    network = build_network(architecture, zoo.CLASSES, zoo.SIZE)
    first = initial_parameters(network, 7)
    other = initial_parameters(network, 8)
    torch.randn(3)
    assert torch.equal(initial_parameters(network, 7), first)
    assert torch.equal(initial_parameters(build_network(architecture, zoo.CLASSES, zoo.SIZE), 7), first)
    assert not torch.equal(other, first)
    assert first.dtype == torch.float32


def test_initial_parameters_are_those_of_torch() -> None:
    network = build_network(MLP(width=5), zoo.CLASSES, zoo.SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        module = MLP(width=5).module(zoo.CLASSES, zoo.SIZE)
    assert torch.equal(initial_parameters(network, 11), network.layout.flatten(dict(module.named_parameters())))


def test_global_generator_is_not_changed() -> None:
    before = torch.get_rng_state()
    initial_parameters(build_network(ConvNet(depth=1, width=4), 3, 8), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_later_parameters_do_not_change_earlier_ones() -> None:
    network = build_network(MLP(width=4), 3, 8)
    first = initial_parameters(network, 0)
    copy = first.clone()
    initial_parameters(network, 1)
    assert torch.equal(first, copy)


def test_instance_norm_ignores_scale_and_offset_of_an_image() -> None:
    network = build_network(ConvNet(depth=1, width=4), 3, 8)
    theta = initial_parameters(network, 0).double()
    parameters = network.layout.split(theta)
    parameters["0.bias"].zero_()
    image = zoo.normal(0, 1, 3, 8, 8)
    # eps of the norm keeps this from being exact
    torch.testing.assert_close(network(theta, 100 * image), network(theta, 1000 * image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [8, 16, 40, 48, 56, 128])
def test_group_norm_takes_any_width(width: int) -> None:
    network = build_network(ConvNet(depth=1, width=width, norm="group"), 3, 8)
    logits = network(initial_parameters(network, 0), zoo.normal(0, 2, 3, 8, 8).float())
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


def test_images_too_small_for_the_poolings_are_rejected() -> None:
    with pytest.raises(ValueError, match="4 poolings need at least 16 pixels, the images have 8"):
        build_network(ConvNet(depth=4, width=4), 3, 8)


@pytest.mark.parametrize("make", [lambda: ConvNet(depth=0), lambda: ConvNet(width=0), lambda: MLP(width=0)])
def test_network_without_layers_is_rejected(make: Any) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        make()


def test_names_distinguish_architectures() -> None:
    names = {
        a.name for a in (ConvNet(), ConvNet(depth=2), ConvNet(width=4), ConvNet(norm="group"), MLP(), MLP(width=4))
    }
    assert len(names) == 6


@pytest.mark.parametrize(
    ("architecture", "size", "parameters"),
    [
        # Weights and biases counted by hand from the papers' tables; two numbers for each channel
        # of an instance norm.
        (AlexNet(), 32, 9_728 + 614_592 + 442_624 + 442_560 + 331_968 + 30_730),
        (VGG11(), 32, 9_220_480 + 2 * 2_752 + 5_130),
        (ResNet18(), 32, 11_173_962),  # the CIFAR ResNet-18 of the literature: batch norm has as many parameters
    ],
)
def test_networks_have_the_sizes_of_the_literature(architecture: Any, size: int, parameters: int) -> None:
    assert build_network(architecture, 10, size).layout.num_parameters == parameters


@pytest.mark.parametrize(
    "architecture", [VGG11(width=2), ResNet18(width=2)], ids=lambda architecture: architecture.name
)
def test_deep_networks_can_be_matched_exactly(architecture: Any) -> None:
    network = build_network(architecture, zoo.CLASSES, 32)
    start = initial_parameters(network, 0).double()
    images, targets = zoo.normal(1, zoo.CLASSES, 3, 32, 32), torch.eye(zoo.CLASSES, dtype=torch.float64)
    loss, steps = student_loss(network, Augmentation()), zoo.batches(Augmentation(), 2)
    target = start + 0.05 * zoo.normal(2, len(start))
    given = (start, target, images, targets, torch.tensor(0.01, dtype=torch.float64))
    exact, unrolled = (Matcher(loss, engine).match(*given, steps) for engine in (Adjoint(), Unrolled()))
    for value, expected in zip(exact.gradients, unrolled.gradients, strict=True):
        assert zoo.relative(value, expected) < 1e-10


@pytest.mark.parametrize("architecture", [*zoo.NETWORKS.values()], ids=zoo.NETWORKS)
def test_embedding_is_the_input_of_the_last_layer(architecture: Any) -> None:
    network = build_network(architecture, zoo.CLASSES, zoo.SIZE)
    features, images = embedding(network), zoo.normal(0, 4, 3, zoo.SIZE, zoo.SIZE).float()
    theta = initial_parameters(network, 5)
    last = network.layout.names[-2:]
    parameters = network.layout.split(theta)
    seen = features(initial_parameters(features, 5), images)
    expected = torch.nn.functional.linear(seen, parameters[last[0]], parameters[last[1]])
    torch.testing.assert_close(expected, network(theta, images))


def linear(num_classes: int, image_size: int, channels: int, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, num_classes, bias=bias))


def test_custom_network_is_imported_by_name() -> None:
    mine = Custom(factory="tests.unit.learning.test_networks:linear", options={"bias": False})
    assert build_network(mine, 4, 8).layout.shapes == ((4, 192),)
    assert mine.name == "linear-biasFalse"


@pytest.mark.parametrize(
    ("factory", "options", "sentence"),
    [
        ("nope", {}, "factory must be package.module:callable, got 'nope'"),
        ("no.such:thing", {}, "network.factory=no.such:thing cannot be imported"),
        ("tests.zoo:no_such", {}, "cannot be imported (module 'tests.zoo' has no attribute 'no_such')"),
        ("tests.unit.learning.test_networks:linear", {"depth": 3}, "does not accept its arguments"),
        ("builtins:max", {}, "returned int, not a torch.nn.Module"),
    ],
)
def test_factory_that_returns_no_network_is_reported(factory: str, options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        build_network(Custom(factory=factory, options=options), 4, 8)


@pytest.mark.parametrize("tracks", [True, False])
def test_batch_norm_is_rejected(tracks: bool) -> None:
    with pytest.raises(ValueError, match="the network has batch norm in '1'; take instance or group norm"):
        Network.of(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=tracks)))


def test_dropout_is_rejected_unless_its_probability_is_zero() -> None:
    with pytest.raises(ValueError, match="the network has dropout in '1'; set its probability to 0"):
        Network.of(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(12, 2)))
    Network.of(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(12, 2)))


def test_buffers_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"the network keeps state in '0\.running_mean'; make it a parameter"):
        Network.of(
            lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten(), nn.Linear(12, 2))
        )


def test_custom_network_is_identified_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "networks_of_mine.py"
    source.write_text("from torch import nn\n\n\ndef one(k, size, channels):\n    return nn.Linear(3, k)\n")
    mine = Custom(factory="networks_of_mine:one")
    before = mine.source_sha256
    assert sources(ConvNet(), mine) == [before]
    source.write_text(source.read_text().replace("nn.Linear(3, k)", "nn.Linear(3, k, bias=False)"))
    assert mine.source_sha256 != before


def test_patches_must_tile_the_image() -> None:
    with pytest.raises(ValueError, match="patches of 5 pixels do not tile an image of 8"):
        build_network(ViT(patch=5), 3, 8)


@pytest.mark.parametrize(("share", "layers"), [(0.0, 0), (0.2, 0), (0.25, 1), (0.5, 2), (0.75, 3), (0.9, 3)])
def test_first_layers_are_counted_from_the_input(share: float, layers: int) -> None:
    """PAD: ConvNet-D3 has four layers; each convolution includes its bias and norm."""
    network = build_network(ConvNet(depth=3, width=4), zoo.CLASSES, zoo.SIZE)
    sizes = {
        0: 0,
        1: 3 * 4 * 9 + 4 + 8,
        2: 1 * (3 * 4 * 9 + 12) + (4 * 4 * 9 + 12),
        3: (3 * 4 * 9 + 12) + 2 * (4 * 4 * 9 + 12),
    }
    assert network.layout.parameters_of_first_layers(share) == sizes[layers]


def rejection(network: Network) -> str:
    """Return the error of `check_network`; empty for a network that passes."""
    try:
        check_network(network, zoo.CLASSES, zoo.SIZE)
    except ValueError as error:
        return str(error)
    return ""


@ARCHITECTURES
def test_built_in_networks_pass_check_network(architecture: Any) -> None:
    assert rejection(build_network(architecture, zoo.CLASSES, zoo.SIZE)) == ""


class Attending(nn.Module):
    """Attend over the images of a batch or the rows of each.

    Its dropout is not a layer of its own.
    """

    def __init__(self, dropout: float, over_batch: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 2, dropout=dropout, batch_first=True)
        self.out, self.over_batch = nn.Linear(24, zoo.CLASSES), over_batch

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.mean(dim=1).repeat(1, 1, 3)  # B, 8, 24
        rows = rows.transpose(0, 1) if self.over_batch else rows
        seen = self.attention(rows, rows, rows)[0]
        return self.out((seen.transpose(0, 1) if self.over_batch else seen).mean(dim=1))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Attending(0.3, False), "the network draws random numbers"),
        (lambda: Attending(0.0, True), "the network mixes the images of a batch"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),
            "returns (2, 4) for 2 images and 3 classes, not (2, 3)",
        ),
        (lambda: nn.Flatten(), "the network has no parameters"),
        (lambda: nn.Linear(7, 5), "the network cannot take images of 8 pixels"),
    ],
)
def test_check_network_finds_what_layer_types_do_not_show(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_network(Network.of(make), zoo.CLASSES, zoo.SIZE)
    assert rejection(Network.of(lambda: Attending(0.0, False))) == ""
