"""timm's networks are pure functions of their parameters.

Weights come from a local file or are random.
"""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

if importlib.util.find_spec("timm") is None:
    pytest.skip("needs the package timm", allow_module_level=True)

from raydistill.config.tree import sources
from raydistill.errors import ConfigError
from raydistill.imports import import_beside_torchvision
from raydistill.learning.architectures import ConvNet
from raydistill.learning.networks import (
    Network,
    build_network,
    check_network,
    embedding,
    initial_parameters,
    logits_and_features,
    shared_network,
)
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.timm_networks import Timm
from raydistill.learning.training import predict, train
from raydistill.pipeline.plan import Plan
from tests import zoo
from tests.unit.config_tools import SIMULATED, Read

SIZE, K = 64, 3
# ConvNeXt has layer norm, ResNet and EfficientNet have batch norm, ViT and MaxViT need the size of the images.
NAMES = ("test_convnext", "test_resnet", "test_efficientnet", "test_vit")


def original(name: str = "test_resnet", num_classes: int = K) -> nn.Module:
    """Return timm's own network with running statistics that differ from the start."""
    torch.manual_seed(0)
    module: nn.Module = import_beside_torchvision("timm").create_model(name, num_classes=num_classes)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(layer.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(layer.weight, 1.0, 0.2)
            nn.init.normal_(layer.bias, std=0.2)
    return module.eval()


def saved(module: nn.Module, path: Path, **others: Tensor) -> str:
    safetensors.torch.save_file(module.state_dict() | others, path)
    return str(path)


def images(count: int = 4) -> Tensor:
    return zoo.normal(3, count, 3, SIZE, SIZE, dtype=torch.float32)


def parameters(network: Network) -> Tensor:
    return initial_parameters(network, 0)


# ---- pure functions ----


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_alone_determines_its_logits(name: str) -> None:
    network = build_network(Timm(model=name), K, SIZE)
    check_network(network, K, SIZE)
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.module.modules())


def test_positions_are_constants_and_no_parameters() -> None:
    """Swin has buffers (position indices, attention masks) and stochastic depth."""
    network = build_network(Timm(model="swin_tiny_patch4_window7_224"), K, SIZE)
    assert {name.rpartition(".")[2] for name, _ in network.constants} >= {"relative_position_index", "attn_mask"}
    assert not {name for name, _ in network.constants} & set(network.layout.names)
    check_network(network, K, SIZE)


def test_seed_determines_the_initial_parameters() -> None:
    network = build_network(Timm(model="test_convnext"), K, SIZE)
    assert torch.equal(initial_parameters(network, 1), initial_parameters(network, 1))
    assert not torch.equal(initial_parameters(network, 1), initial_parameters(network, 2))


@pytest.mark.parametrize("name", NAMES)
def test_features_are_the_input_of_the_classification_layer(name: str) -> None:
    network = build_network(Timm(model=name), K, SIZE)
    logits, features = logits_and_features(network, parameters(network), images())
    assert logits.shape == (4, K)
    net = embedding(network)
    same = {key: value for key, value in network.layout.split(parameters(network)).items() if key in net.layout.names}
    torch.testing.assert_close(net.apply(same, images()), features)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_exact(name: str) -> None:
    """Matching differentiates a gradient: its directional change is a Hessian product."""
    network = build_network(Timm(model=name), K, SIZE)
    pictures, targets = images(2).double(), one_hot(torch.tensor([0, 1]), K).double()
    theta = parameters(network).double()
    theta = theta + 0.02 * zoo.normal(5, len(theta))  # ResNet starts with zeros, at which ReLU has a kink

    def loss(theta_P: Tensor) -> Tensor:
        return -(targets * network(theta_P, pictures).log_softmax(dim=1)).sum()

    direction = zoo.normal(4, len(theta))
    direction = direction / direction.norm()
    gradient = torch.func.grad(loss)
    product = torch.func.grad(lambda theta_P: gradient(theta_P) @ direction)(theta)
    step = 1e-7  # far below the distance to a kink of ReLU
    expected = (gradient(theta + step * direction) - gradient(theta - step * direction)) / (2 * step)
    torch.testing.assert_close(product, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_training_learns_three_colours() -> None:
    labels = torch.arange(24) % K
    pictures = 0.1 * zoo.normal(3, 24, 3, SIZE, SIZE, dtype=torch.float32)
    pictures[torch.arange(24), labels] += 1
    network = build_network(Timm(model="test_convnext"), K, SIZE)
    training = Training(epochs=8, batch_size=8, lr=0.03, momentum=0.9, compile=False)
    theta = train(network, parameters(network), pictures, one_hot(labels, K), training, seed=0)
    assert (predict(network, theta, pictures) == labels).float().mean() > 0.9


# ---- weights ----


@pytest.mark.parametrize("name", NAMES)
def test_weights_give_the_logits_of_timms_network(name: str, tmp_path: Path) -> None:
    module = original(name)
    size = module.pretrained_cfg["input_size"][-1]  # type: ignore[index]
    pictures = zoo.normal(3, 2, 3, size, size, dtype=torch.float32)
    network = build_network(Timm(model=name, weights=saved(module, tmp_path / "w.safetensors")), K, size)
    torch.testing.assert_close(network(parameters(network), pictures), module(pictures), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_classes", [0, 7])
def test_encoder_gets_a_new_classification_layer(num_classes: int, tmp_path: Path) -> None:
    """Zoobot's encoders have no classification layer.

    Other networks have one of other classes.
    """
    module = original("test_convnext", num_classes)
    network = build_network(Timm(model="test_convnext", weights=saved(module, tmp_path / "w.safetensors")), K, SIZE)
    first, other = (network.layout.split(initial_parameters(network, seed)) for seed in (1, 2))
    differ = {name for name in first if not torch.equal(first[name], other[name])}
    assert differ == {"head.fc.weight"}  # drawn from the seed
    assert all(torch.equal(first[name], w) for name, w in module.state_dict().items() if "head.fc" not in name)


def test_group_norm_keeps_the_scale_and_shift_of_weights(tmp_path: Path) -> None:
    module = original()
    weights = saved(module, tmp_path / "w.safetensors")
    network = build_network(Timm(model="test_resnet", weights=weights, batch_norm="group"), K, SIZE)
    named = network.layout.split(parameters(network))
    assert torch.equal(named["bn1.weight"], module.state_dict()["bn1.weight"])
    assert isinstance(network.module.get_submodule("bn1"), nn.GroupNorm)


def test_digest_of_the_weights_identifies_a_network(tmp_path: Path) -> None:
    path = tmp_path / "zoobot.safetensors"
    network = Timm(model="test_convnext", weights=saved(original("test_convnext"), path))
    assert network.name == "test_convnext-zoobot"
    before = network.source_sha256
    assert sources(ConvNet(), Timm(model="test_convnext"), network) == [before]
    saved(original("test_convnext", 7), path)
    assert network.source_sha256 != before


# ---- errors ----


def weights_error(path: Path, **changes: Tensor | None) -> str:
    """Return the error of weights in which tensors were replaced or removed."""
    state = original("test_convnext").state_dict() | changes
    safetensors.torch.save_file({key: value for key, value in state.items() if value is not None}, path)
    with pytest.raises(ConfigError) as caught:
        build_network(Timm(model="test_convnext", weights=str(path)), K, SIZE)
    return str(caught.value)


def test_weights_of_another_network_are_rejected_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    fix = "give the file of this network's parameters, or leave weights out"
    shape = {"stem.0.weight": torch.zeros(5, 3, 4, 4)}
    wrong = "'stem.0.weight' has the shape [5, 3, 4, 4] in the weights and [24, 3, 4, 4] in test_convnext"
    assert weights_error(path, **shape) == f"{path}: {wrong}; {fix}"
    missing = f"{path}: the weights lack 'stem.0.bias' of test_convnext; {fix}"
    assert weights_error(path, **{"stem.0.bias": None}) == missing
    further = f"{path}: the weights have 'more', which test_convnext lacks; {fix}"
    assert weights_error(path, more=torch.zeros(1)) == further


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04 a checkpoint", "the weights are not a safetensors file; give the file"),
        (None, "cannot be read (No such"),
    ],
)
def test_file_that_holds_no_weights_is_rejected(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "w.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        build_network(Timm(model="test_convnext", weights=str(path)), K, SIZE)


@pytest.mark.parametrize("model", ["", "hf_hub:mwalmsley/zoobot-encoder-convnext_nano", "mwalmsley/zoobot"])
def test_names_that_would_be_downloaded_are_rejected(model: str) -> None:
    with pytest.raises(ValueError, match="model must be a name in timm, such as convnext_nano"):
        Timm(model=model)


def test_statistics_without_weights_are_rejected() -> None:
    with pytest.raises(ValueError, match="batch_norm=fold needs the running statistics of weights"):
        Timm(model="test_resnet", batch_norm="fold")


def test_misspelt_model_has_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="timm has no model 'convnext_nanoo'; did you mean 'convnext_nano'"):
        build_network(Timm(model="convnext_nanoo"), K, SIZE)


def test_pictures_that_are_too_small_are_rejected() -> None:
    with pytest.raises(ValueError, match="the network cannot take images of 8 pixels"):
        check_network(build_network(Timm(model="test_convnext"), K, 8), K, 8)


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm is not installed; run pip install 'raydistill\[timm\]'"):
        build_network(Timm(model="test_convnext"), K, SIZE)


def test_other_weights_are_another_evaluation(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "zoobot.safetensors"
    saved(original("test_resnet"), path)
    networks = f"[{{kind: timm, model: test_resnet}}, {{model: test_resnet, weights: {path}}}]"
    config = read(SIMULATED, f"evaluate.other_networks={networks}")
    with_weights = config.evaluate.other_networks[1]
    assert (config.network.kind, with_weights) == ("convnet", Timm(model="test_resnet", weights=str(path)))
    assert pickle.loads(pickle.dumps(with_weights)) == with_weights  # workers get it
    assert shared_network(with_weights, K, SIZE) is shared_network(with_weights, K, SIZE)
    before = Plan(config).evaluation.identity
    assert Plan(config).evaluation.identity == before
    saved(original("test_resnet", 7), path)
    assert Plan(config).evaluation.identity != before
