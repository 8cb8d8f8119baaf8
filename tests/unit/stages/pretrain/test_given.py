"""Read what others trained: parameters, and ONNX files."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from torch import Tensor

from raydistill.artifacts.tensors import write_tensors
from raydistill.errors import ConfigError, RaydistillError
from raydistill.learning.architectures import MLP
from raydistill.learning.encoders import Renormalise
from raydistill.learning.networks import build_network, embedding, initial_parameters
from raydistill.learning.normalise import Normalisation
from raydistill.pipeline.plan import Plan
from raydistill.stages.pretrain.artifact import MODEL, ONNX, EncoderDescriber, EncoderSummary, onnx_function
from raydistill.stages.pretrain.config import IMAGENET, GivenWeights
from raydistill.stages.pretrain.describers import TableDescriber
from raydistill.stages.pretrain.given import _parameters
from raydistill.storage import Folder
from tests import zoo
from tests.unit.config_tools import SIMULATED, Read

SIZE, F = 8, 5
MATRIX = zoo.normal(1, 3 * SIZE * SIZE, F, dtype=torch.float32)
SUMMARY = EncoderSummary("survey", True, SIZE, 0.5, False, *IMAGENET, F, 0, 0, 0, 0, "onnx", SIZE)


# ---- ONNX files ----


def write_onnx(
    path: Path, matrix: Tensor = MATRIX, size: int = SIZE, count: int | str = "n", apart: bool = False
) -> bytes:
    """Write pictures @ matrix as an ONNX file; return its content."""
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [count, 3, size, size])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [count, matrix.shape[1]])
    weights = [onnx.numpy_helper.from_array(matrix.numpy(), "w")]
    graph = onnx.helper.make_graph(nodes, "linear", [given], [result], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 10
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, save_as_external_data=apart, location="weights", size_threshold=0)
    return path.read_bytes()


def test_onnx_file_gives_what_torch_gives(tmp_path: Path) -> None:
    run = onnx_function(write_onnx(tmp_path / ONNX), "there")
    images = zoo.normal(2, 7, 3, SIZE, SIZE, dtype=torch.float32)
    torch.testing.assert_close(run(images), images.flatten(1) @ MATRIX)


def test_onnx_file_for_one_picture_describes_several(tmp_path: Path) -> None:
    run = onnx_function(write_onnx(tmp_path / ONNX, count=1), "there")
    images = zoo.normal(2, 3, 3, SIZE, SIZE, dtype=torch.float32)
    torch.testing.assert_close(run(images), images.flatten(1) @ MATRIX)


def test_weights_beside_an_onnx_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_onnx(tmp_path / ONNX, apart=True)
    assert (tmp_path / "weights").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there: its weights are in another file; export it with the weights inside"):
        onnx_function(content, "there")


def onnx_of_nodes(nodes: list[onnx.NodeProto], given: list[list[int | str]]) -> bytes:
    """Return an ONNX file with inputs x0, x1 … of these shapes and the output y."""
    inputs = [onnx.helper.make_tensor_value_info(f"x{n}", onnx.TensorProto.FLOAT, s) for n, s in enumerate(given)]
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(nodes, "graph", inputs, [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 10
    content: bytes = model.SerializeToString()
    return content


def test_onnx_file_with_two_inputs_is_rejected() -> None:
    content = onnx_of_nodes([onnx.helper.make_node("Add", ["x0", "x1"], ["y"])], [["n", 3, 8, 8]] * 2)
    with pytest.raises(ConfigError, match="there: the ONNX file has 2 inputs in place of one"):
        onnx_function(content, "there")


def test_onnx_file_that_mixes_pictures_is_rejected() -> None:
    content = onnx_of_nodes([onnx.helper.make_node("ReduceMean", ["x0"], ["y"], axes=[0])], [["n", 3, 8, 8]])
    with pytest.raises(
        ConfigError, match=r"returns an array \[1, 3, 8, 8\] for 4 pictures; give one that returns a row"
    ):
        onnx_function(content, "there")(torch.zeros(4, 3, 8, 8))


@pytest.mark.parametrize("content", [b"", b"no graph", b"PK\x03\x04 a TorchScript file"])
def test_file_that_is_not_onnx_is_rejected(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^there: onnxruntime cannot read this file \(.*; give an ONNX file"):
        onnx_function(content, "there")


def test_pictures_of_a_size_that_the_onnx_file_does_not_take_are_rejected(tmp_path: Path) -> None:
    run = onnx_function(write_onnx(tmp_path / ONNX), "there")
    sentence = r"cannot take pictures \[2, 3, 16, 16\].*; set pretrain.source.input_size; .* \['n', 3, 8, 8\]"
    with pytest.raises(ConfigError, match=sentence):
        run(torch.zeros(2, 3, 16, 16))


# ---- describers with a network ----


def describer(folder: Path, kind: str) -> tuple[EncoderDescriber, Callable[[Tensor], Tensor]]:
    """Return the describer of an encoder, and its function of normalised images."""
    if kind == "onnx":
        write_onnx(folder / ONNX)
        return EncoderDescriber(str(folder), SUMMARY, None), lambda images: images.flatten(1) @ MATRIX
    network = embedding(build_network(MLP(width=F), 2, SIZE))
    theta_P = initial_parameters(network, 1)
    write_tensors(Folder(folder), MODEL, network.layout.split(theta_P), {})
    return EncoderDescriber(str(folder), SUMMARY, MLP(width=F)), lambda images: network(theta_P, images)


@pytest.mark.parametrize("kind", ["onnx", "weights"])
@pytest.mark.parametrize("side", [SIZE, 20])
def test_pictures_are_normalised_and_resized_for_the_network(kind: str, side: int, tmp_path: Path) -> None:
    """There are more pictures than a batch has."""
    encoder, function = describer(tmp_path / "encoder", kind)
    pictures = np.random.default_rng(side).integers(0, 256, (70, side, side, 3), np.uint8)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    images = torch.nn.functional.interpolate((images - mean) / std, (SIZE, SIZE), mode="bilinear", antialias=True)
    torch.testing.assert_close(encoder.features(pictures), function(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "weights", "embeddings"])
def test_describer_is_pickled_without_what_it_has_read(
    kind: str, tmp_path: Path, described: tuple[TableDescriber, np.ndarray]
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    encoder: EncoderDescriber | TableDescriber
    encoder = described[0] if kind == "embeddings" else describer(tmp_path / "encoder", kind)[0]

    def describe(one: Any) -> Tensor:
        found: Tensor = one.lookup(pa.array(["b"])) if kind == "embeddings" else one.features(pictures)
        return found

    before = describe(encoder)
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert again == encoder
    assert torch.equal(describe(again), before)


# ---- parameters ----


def saved(path: Path, tensors: dict[str, Tensor]) -> str:
    safetensors.torch.save_file(tensors, path)
    return str(path)


def parameters_of(read: Read, source: GivenWeights, network: str = "{kind: mlp, width: 5}") -> dict[str, Tensor]:
    return _parameters(Plan(read(SIMULATED, f"pretrain.network={network}")), source, SIZE)


def mlp_tensors(seed: int = 0) -> dict[str, Tensor]:
    """Return the parameters of the network of `parameters_of`, with its last layer."""
    network = build_network(MLP(width=F), 2, SIZE)
    return {name: value.clone() for name, value in network.layout.split(initial_parameters(network, seed)).items()}


def test_parameters_are_those_of_the_file_without_the_last_layer(read: Read, tmp_path: Path) -> None:
    tensors = mlp_tensors()
    path = saved(tmp_path / "w.safetensors", {name: value.half() for name, value in tensors.items()})
    found = parameters_of(read, GivenWeights(weights=path))
    features = embedding(build_network(MLP(width=F), 2, SIZE)).layout.names
    assert tuple(found) == features
    assert len(features) < len(tensors)
    for name in features:
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensors[name].half().float())


def test_network_without_a_file_has_random_parameters_and_a_warning(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "raydistill")
    first, second = parameters_of(read, GivenWeights()), parameters_of(read, GivenWeights())
    assert "pretrain: the network has random parameters; give pretrain.source.weights" in caplog.messages
    assert all(torch.equal(first[name], second[name]) for name in first)


def weights_error(read: Read, path: str, network: str = "{kind: mlp, width: 5}") -> str:
    with pytest.raises(RaydistillError) as caught:
        parameters_of(read, GivenWeights(weights=path), network)
    assert isinstance(caught.value, ConfigError)
    return str(caught.value)


def test_weights_that_do_not_fit_are_rejected_with_one_sentence(read: Read, tmp_path: Path) -> None:
    name, value = next(iter(mlp_tensors().items()))
    fix = "give the parameters of pretrain.network, by the names that torch gives them"
    path = saved(tmp_path / "less.safetensors", {key: t for key, t in mlp_tensors().items() if key != name})
    assert weights_error(read, path) == f"{path}: the weights lack '{name}'; {fix}"
    path = saved(tmp_path / "other.safetensors", mlp_tensors() | {name: torch.zeros(2, 2)})
    assert weights_error(read, path) == f"{path}: '{name}' has another shape than {tuple(value.shape)}; {fix}"


def test_file_without_weights_is_rejected(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"PK\x03\x04 a checkpoint")
    assert weights_error(read, str(path)) == (
        f"{path}: the weights are not a safetensors file; give the parameters of pretrain.network in this format"
    )
    gone = tmp_path / "gone"
    assert weights_error(read, str(gone)) == (
        f"{gone}: the file cannot be read (No such file or directory); correct pretrain.source.weights"
    )


def test_weights_of_timm_belong_to_its_network(read: Read, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", mlp_tensors())
    sentence = weights_error(read, path, "{kind: timm, model: test_resnet}")
    assert sentence.startswith("pretrain.source.weights: a network of timm reads its own weights; give the file as ")


# ---- the identity ----

SOURCES = {
    "weights": "{{kind: weights, weights: {}{}}}",
    "onnx": "{{kind: onnx, file: {}{}}}",
    "embeddings": "{{kind: embeddings, table: {}{}}}",
}


@pytest.mark.parametrize("kind", SOURCES)
def test_content_of_a_given_file_identifies_an_encoder_and_its_path_does_not(
    kind: str, read: Read, tmp_path: Path
) -> None:
    def identity(name: str, content: bytes, more: str = "", *overrides: str) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        config = read(SIMULATED, f"pretrain.source={SOURCES[kind].format(path, more)}", *overrides)
        return Plan(config).encoder.identity

    first = identity("a", b"content")
    assert identity("b", b"content") == first
    assert identity("b", b"content", "", "pretrain.training.steps=7", "pretrain.probe_every=3") == first
    assert identity("a", b"other") != first
    option = ", id: objid" if kind == "embeddings" else ", input_size: 9"
    assert identity("a", b"content", option) != first
    network = identity("a", b"content", "", "pretrain.network={kind: mlp, width: 6}")
    assert (network == first) == (kind != "weights")


def test_training_identifies_an_encoder_that_is_trained_here(read: Read) -> None:
    plain = Plan(read(SIMULATED)).encoder.identity
    assert Plan(read(SIMULATED, "pretrain.source={kind: trained}")).encoder.identity == plain
    assert Plan(read(SIMULATED, "pretrain.training.steps=7")).encoder.identity != plain


# ---- another size of images ----


def test_images_are_renormalised_resized_and_have_a_gradient() -> None:
    images = zoo.normal(0, 2, 3, SIZE, SIZE).requires_grad_()
    convert = Renormalise(Normalisation((0.5,) * 3, (0.2,) * 3), Normalisation((0.1,) * 3, (0.4,) * 3), 4)
    small = convert(images)
    assert small.shape == (2, 3, 4, 4)
    assert torch.allclose(small.mean(), ((images * 0.2 + 0.5 - 0.1) / 0.4).mean(), atol=0.1)
    small.sum().backward()
    assert images.grad is not None
    # The weights of a resized pixel sum to 1, and so do those of its derivative.
    torch.testing.assert_close(images.grad.sum(dim=(2, 3)), torch.full((2, 3), 16 * 0.2 / 0.4, dtype=torch.float64))
    assert (images.grad > 0).all()


def test_constant_images_keep_their_values_and_the_own_size_changes_nothing() -> None:
    source, target = Normalisation((0.0,) * 3, (1.0,) * 3), Normalisation((0.5, 0.4, 0.3), (0.1, 0.2, 0.5))
    resized = Renormalise(source, target, 20)(torch.full((1, 3, SIZE, SIZE), 0.8))
    expected = torch.tensor([3.0, 2.0, 1.0])[:, None, None].expand(1, 3, 20, 20)
    torch.testing.assert_close(resized, expected)
    images = zoo.normal(0, 2, 3, SIZE, SIZE)
    assert torch.equal(Renormalise(source, target, SIZE)(images), Renormalise(source, target)(images))
