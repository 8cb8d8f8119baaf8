"""Generators: built from a seed, conditional, restored from their tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.diffusion.model import Generator, build_generator
from raydistill.diffusion.network_options import Mlp, UNet
from raydistill.diffusion.networks import GatedAttention
from raydistill.diffusion.options import ComponentSpace, Model
from raydistill.diffusion.processes import EDM, SIGMA_DATA, RectifiedFlow, VPrediction
from raydistill.seeding import generator as seeded

LAYOUT = ConditionLayout((ConditionGroup("class", 2),))
TINY = UNet(channels=(8, 16), patch=2)
MODELS = {
    "flow": Model(TINY),
    "image": Model(TINY, RectifiedFlow(prediction="image")),
    "edm": Model(TINY, EDM()),
    "v": Model(TINY, VPrediction()),
    "gate": Model(UNet(channels=(8, 16), patch=1, block="attention_gate")),
    "components": Model(Mlp(width=16, blocks=2), space=ComponentSpace(components=12)),
}


def pixels(n: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, 8, 8, 3), dtype=torch.uint8, generator=seeded(0, "pixels"))


def build(name: str, seed: int = 0) -> Generator:
    return build_generator(MODELS[name], LAYOUT, 8, seed, pixels()).eval()


def randomise(generator: Generator) -> Generator:
    """Replace all parameters: some start at 0, which hides what depends on them."""
    g = seeded(1, "parameters")
    for parameter in generator.parameters():
        nn.init.normal_(parameter, std=0.2, generator=g)
    return generator


def states(generator: Generator, n: int = 4) -> torch.Tensor:
    return torch.randn(n, *generator.space.shape, generator=seeded(0, "states"))


@pytest.mark.parametrize("name", MODELS)
def test_equal_seeds_give_equal_generators_and_leave_torch_generator_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    first, same, other = (build(name, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_estimate_follows_time_and_condition(name: str) -> None:
    generator = randomise(build(name))
    x, t = states(generator), torch.full((4,), 0.5)
    plain = Conditions.unknown(4, LAYOUT)
    first = Conditions.of(LAYOUT, 4, **{"class": torch.tensor([[1.0, 0.0]]).expand(4, 2)})
    with torch.no_grad():
        base = generator.denoise(x, t, plain)
        assert base.shape == x.shape
        assert not torch.allclose(base, generator.denoise(x, t, first))
        assert not torch.allclose(base, generator.denoise(x, t + 0.3, plain))
        rows = torch.cat([generator.denoise(x[i : i + 1], t[:1], plain[:1]) for i in range(4)])
    torch.testing.assert_close(rows, base, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_tensors_restore_a_generator_that_never_saw_the_images(name: str) -> None:
    generator = randomise(build(name))
    restored = build_generator(MODELS[name], LAYOUT, 8)
    restored.load_state_dict(generator.state_dict())
    x, t, plain = states(generator), torch.full((4,), 0.3), Conditions.unknown(4, LAYOUT)
    with torch.no_grad():
        assert torch.equal(restored.eval().denoise(x, t, plain), generator.denoise(x, t, plain))
        assert torch.equal(restored.space.decode(x), generator.space.decode(x))


def test_untrained_edm_is_the_best_linear_denoiser() -> None:
    generator = build("edm")
    x, t = states(generator), torch.full((4,), 0.4)
    sigma = EDM().sigma(t)[:, None, None, None]
    wiener = SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2) * x
    torch.testing.assert_close(generator.denoise(x, t, Conditions.unknown(4, LAYOUT)), wiener)


def test_gate_starts_as_the_mean_of_attention_and_convolution() -> None:
    attention = nn.Conv2d(4, 4, 1)
    gated = GatedAttention(attention, 4)
    x = torch.randn(2, 4, 5, 5, generator=seeded(0, "x"))
    expected = x + 0.5 * (attention(x) - x) + 0.5 * gated.convolution(x)
    torch.testing.assert_close(gated(x), expected)
    nn.init.constant_(gated.gate.bias, 50.0)
    torch.testing.assert_close(gated(x), attention(x))


def test_every_attention_of_a_gated_unet_has_a_gate() -> None:
    module = UNet(channels=(8, 16), layers=2, attention=1, block="attention_gate").module((3, 8, 8))
    gates = [part for part in module.modules() if isinstance(part, GatedAttention)]
    assert len(gates) == 2 + 1 + 3  # two layers down, the middle, three layers up


def test_unet_without_attention_has_none() -> None:
    module = UNet(channels=(8, 16), attention=0).module((3, 8, 8))
    assert not [name for name, _ in module.named_modules() if name.endswith("to_q")]


def test_impossible_models_are_rejected() -> None:
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        build_generator(Model(UNet(channels=(8, 8, 8))), LAYOUT, 12)
    with pytest.raises(ValueError, match="mlp needs a space components, a network"):
        Model(Mlp())
    with pytest.raises(ValueError, match="unet needs a space pixels"):
        Model(UNet(), RectifiedFlow(), ComponentSpace())
    with pytest.raises(ValueError, match="at least one level"):
        UNet(channels=())
