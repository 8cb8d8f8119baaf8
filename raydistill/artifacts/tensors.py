"""Tensors in safetensors files with a header in JSON, and the whitening that a curated set and its distilled sets keep in one."""

from __future__ import annotations

import json
from typing import Any

import safetensors.torch
from torch import Tensor

from raydistill.artifacts.storage import Folder
from raydistill.core.normalise import Whitening
from raydistill.errors import ArtifactCorrupt

WHITENING = "whitening.safetensors"


def write_tensors(folder: Folder, name: str, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """A safetensors file with `info` as JSON under one metadata key (several keys come in no fixed order)."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    folder.write(name, safetensors.torch.save(plain, {"raydistill": json.dumps(info, sort_keys=True)}))


def read_tensors(folder: Folder, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `write_tensors`. ArtifactCorrupt for anything else."""
    data = folder.read(name)
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tensors, json.loads(header["__metadata__"]["raydistill"])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ArtifactCorrupt(
            f"'{name}' is not a whole safetensors file of raydistill", folder.uri, "write it again"
        ) from error


def write_whitening(folder: Folder, whitening: Whitening) -> None:
    """`mean` [D], `forward` and `inverse` [D, D]; D = C H W in that order. The header has `eps`."""
    tensors = {"mean": whitening.mean_D, "forward": whitening.forward_DD, "inverse": whitening.inverse_DD}
    write_tensors(folder, WHITENING, tensors, {"eps": whitening.eps})


def read_whitening(folder: Folder) -> Whitening:
    tensors, info = read_tensors(folder, WHITENING)
    try:
        return Whitening(tensors["mean"], tensors["forward"], tensors["inverse"], info["eps"])
    except KeyError as error:
        raise ArtifactCorrupt(f"'{WHITENING}' lacks {error}", folder.uri, "write it again") from error
