"""A local folder of Stable Diffusion: complete, damaged, parts missing, offline."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raydistill.diffusion.network_options import StableDiffusion
from raydistill.diffusion.stable_diffusion import FILES, Pretrained, import_package
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing, ConfigError
from tests.unit.diffusion.tiny_stable_diffusion import LAYOUT, classes, tiny_generator

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """Return a folder of weights that a test may change."""
    return Path(shutil.copytree(checkpoint, tmp_path / "weights"))


def change_config(root: Path, part: str, **values: object) -> None:
    path = root / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_all_parts_are_read_without_a_network_or_a_word(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    generator = tiny_generator(checkpoint)
    assert generator.embedding(classes(0)).shape == (1, 24, 8)
    assert capfd.readouterr() == ("", "")
    assert all(parameter.dtype == torch.float32 for parameter in generator.parameters())


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("nested", [False, True])
def test_code_of_the_hub_that_a_config_names_is_not_run(key: str, nested: bool, copy: Path) -> None:
    values = json.loads((copy / "text_encoder/config.json").read_text()) | {key: "somebody/kernel"}
    change_config(copy, "text_encoder", **({"model_type": "clip", "text_config": values} if nested else values))
    # transformers would load the kernel, or say that the package `kernels` is missing
    assert Pretrained(str(copy)).text_encoder().config._attn_implementation == "sdpa"


def test_missing_folder_is_one_sentence() -> None:
    with pytest.raises(ArtifactMissing) as caught:
        StableDiffusion(path="no/such").module((4, 8, 8))
    assert str(caught.value).startswith("no/such: there is no such folder of Stable Diffusion weights; set generate.")


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtifactMissing, match=f"lack the file '{name}'"):
        StableDiffusion(path=str(copy)).embedding(LAYOUT)


def test_pickled_weights_are_not_read(copy: Path) -> None:
    (copy / UNET_WEIGHTS).rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ArtifactMissing, match="'unet' are stored as pickle alone, which can run code; save them as"):
        Pretrained(str(copy)).check()


def test_weights_in_half_precision_become_float32(copy: Path) -> None:
    for name in FILES:
        if name.endswith(".safetensors"):
            tensors = load_file(copy / name)
            (copy / name).unlink()
            half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
            save_file(half, (copy / name).with_suffix(".fp16.safetensors"), {"format": "pt"})
    assert all(parameter.dtype == torch.float32 for parameter in tiny_generator(copy).parameters())


@pytest.mark.parametrize("name", [file for file in FILES if file.endswith(".safetensors")])
def test_damaged_weights_are_one_sentence(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:-100])
    with pytest.raises(ArtifactCorrupt, match=f"'{Path(name).parent}' cannot be read .*; copy it again") as caught:
        tiny_generator(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [file for file in FILES if file.endswith(".json")])
def test_damaged_config_is_one_sentence(copy: Path, name: str) -> None:
    (copy / name).write_text("{")
    with pytest.raises(ArtifactCorrupt, match=f"'{Path(name).parent}' cannot be read"):
        tiny_generator(copy)


@pytest.mark.parametrize("name", [file for file in FILES if file.endswith(".safetensors")])
def test_missing_tensor_is_named_and_not_replaced_by_random_numbers(copy: Path, name: str) -> None:
    tensors = load_file(copy / name)
    del tensors[max(key for key in tensors if key.endswith("weight"))]
    save_file(tensors, copy / name, {"format": "pt"})
    with pytest.raises(ArtifactCorrupt, match=rf"'{Path(name).parent}' lack \S+weight"):
        tiny_generator(copy)


@pytest.mark.parametrize(
    ("part", "values", "sentence"),
    [
        ("scheduler", {"beta_end": 0.02}, "beta_end=0.02, and Stable Diffusion has 0.012"),
        ("unet", {"in_channels": 9}, "latent channels differ: 9 in 'unet', 4 in 'vae'"),
        ("text_encoder", {"hidden_size": 12}, "numbers of a token differ: 8 in 'unet', 12 in 'text_encoder'"),
    ],
)
def test_parts_that_do_not_fit_are_rejected(copy: Path, part: str, values: dict[str, object], sentence: str) -> None:
    change_config(copy, part, **values)
    with pytest.raises(ArtifactIncompatible, match=sentence):
        StableDiffusion(path=str(copy)).module((4, 8, 8))


def test_digest_covers_every_file_and_not_the_folder(checkpoint: Path, copy: Path) -> None:
    digest = Pretrained(str(checkpoint)).digest()
    assert Pretrained(str(copy)).digest() == digest
    digests = {digest}
    for name in FILES:
        with (copy / name).open("ab") as file:
            file.write(b" ")
        digests.add(Pretrained(str(copy)).digest())
    assert len(digests) == len(FILES) + 1


def test_other_weights_than_those_of_the_generator_are_rejected(copy: Path) -> None:
    network = StableDiffusion(path=str(copy)).with_digest()
    network.pretrained.check()
    change_config(copy, "unet", sample_size=64)
    with pytest.raises(ArtifactIncompatible, match="not the Stable Diffusion weights of the generator"):
        network.module((4, 8, 8))
    assert replace(network, weights_sha256=None).with_digest() != network


@pytest.mark.parametrize("act", [lambda n: n.embedding(LAYOUT), lambda n: n.module((4, 8, 8))])
def test_missing_extra_is_one_sentence(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[StableDiffusion], object]
) -> None:
    for name in ("transformers", "peft"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'raydistill\[stable-diffusion\]'"):
        act(StableDiffusion(path=str(checkpoint)))
    with pytest.raises(ConfigError, match="Stable Diffusion needs no_such_package"):
        import_package("no_such_package")
