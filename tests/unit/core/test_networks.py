"""Networks as functions of one flat vector."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raydistill.core.networks import MLP, ConvNet, Layout, build, initial_parameters
from tests import zoo

ARCHITECTURES = pytest.mark.parametrize("architecture", zoo.NETWORKS.values(), ids=zoo.NETWORKS)


def test_the_paper_s_network_has_the_paper_s_number_of_parameters() -> None:
    assert build(ConvNet(), 9, 128).layout.num_parameters == 594_441  # arXiv:2311.17967
    assert build(ConvNet(), 10, 32).layout.num_parameters == 320_010  # the literature's CIFAR-10 ConvNet


@ARCHITECTURES
def test_the_flat_function_is_the_module(architecture: Any) -> None:
    network, images = build(architecture, zoo.CLASSES, zoo.SIZE), zoo.normal(0, 5, 3, 8, 8).float()
    theta = initial_parameters(network, 3)
    module = architecture.module(zoo.CLASSES, zoo.SIZE)
    module.load_state_dict(network.layout.split(theta))
    torch.testing.assert_close(network(theta, images), module(images), rtol=0, atol=0)
    assert network(theta, images).shape == (5, zoo.CLASSES)


@ARCHITECTURES
def test_flatten_undoes_split(architecture: Any) -> None:
    layout = build(architecture, zoo.CLASSES, zoo.SIZE).layout
    theta = torch.arange(layout.num_parameters).float()
    assert torch.equal(layout.flatten(layout.split(theta)), theta)
    assert layout.num_parameters == sum(layout.sizes)


def test_split_gives_views() -> None:
    layout = Layout(("a", "b"), ((2, 2), (3,)))
    theta = torch.zeros(7)
    layout.split(theta)["b"][1] = 5
    assert theta.tolist() == [0, 0, 0, 0, 0, 5, 0]


@ARCHITECTURES
def test_initial_parameters_depend_on_the_seed_alone(architecture: Any) -> None:
    network = build(architecture, zoo.CLASSES, zoo.SIZE)
    first = initial_parameters(network, 7)
    other = initial_parameters(network, 8)
    torch.randn(3)
    assert torch.equal(initial_parameters(network, 7), first)
    assert torch.equal(initial_parameters(build(architecture, zoo.CLASSES, zoo.SIZE), 7), first)
    assert not torch.equal(other, first)
    assert first.dtype == torch.float32


def test_initial_parameters_are_torch_s_own_initialisation() -> None:
    network = build(MLP(width=5), zoo.CLASSES, zoo.SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        module = MLP(width=5).module(zoo.CLASSES, zoo.SIZE)
    assert torch.equal(initial_parameters(network, 11), network.layout.flatten(dict(module.named_parameters())))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    initial_parameters(build(ConvNet(depth=1, width=4), 3, 8), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_later_parameters_do_not_change_earlier_ones() -> None:
    network = build(MLP(width=4), 3, 8)
    first = initial_parameters(network, 0)
    copy = first.clone()
    initial_parameters(network, 1)
    assert torch.equal(first, copy)


def test_instance_norm_ignores_each_image_s_scale_and_offset() -> None:
    network = build(ConvNet(depth=1, width=4), 3, 8)
    theta = initial_parameters(network, 0).double()
    parameters = network.layout.split(theta)
    parameters["0.bias"].zero_()
    image = zoo.normal(0, 1, 3, 8, 8)
    # eps of the norm keeps this from being exact
    torch.testing.assert_close(network(theta, 100 * image), network(theta, 1000 * image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [8, 16, 40, 48, 56, 128])
def test_group_norm_takes_any_width(width: int) -> None:
    network = build(ConvNet(depth=1, width=width, norm="group"), 3, 8)
    logits = network(initial_parameters(network, 0), zoo.normal(0, 2, 3, 8, 8).float())
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


def test_images_too_small_for_the_poolings_are_refused() -> None:
    with pytest.raises(ValueError, match="4 poolings need at least 16 pixels, the images have 8"):
        build(ConvNet(depth=4, width=4), 3, 8)


@pytest.mark.parametrize("make", [lambda: ConvNet(depth=0), lambda: ConvNet(width=0), lambda: MLP(width=0)])
def test_a_network_without_layers_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        make()


def test_names_tell_architectures_apart() -> None:
    names = {
        a.name for a in (ConvNet(), ConvNet(depth=2), ConvNet(width=4), ConvNet(norm="group"), MLP(), MLP(width=4))
    }
    assert len(names) == 6
