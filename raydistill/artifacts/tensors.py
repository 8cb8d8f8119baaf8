"""Read and write tensors and whitening as safetensors files with a JSON header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from torch import Tensor

from raydistill.errors import ArtifactCorrupt
from raydistill.learning.normalise import AnyNormalisation, Normalisation, Whitening
from raydistill.storage import Folder

WHITENING = "whitening.safetensors"
SHA256 = "sha256"


def write_tensors(folder: Folder, name: str, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write tensors, and `info` with a sha256 as JSON in the header."""
    folder.write(name, pack_tensors(tensors, {**info, SHA256: _sha256(tensors, info)}))


def read_tensors(folder: Folder, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and `info` of `write_tensors`.

    Raise ArtifactCorrupt for any other or changed file.
    """
    try:
        tensors, info = unpack_tensors(folder.read(name))
        if info.pop(SHA256) != _sha256(tensors, info):
            raise ValueError("a bit has changed")
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactCorrupt(
            f"'{name}' is damaged or no safetensors file of raydistill", folder.uri, "write it again"
        ) from error
    return tensors, info


def pack_tensors(tensors: Mapping[str, Tensor], info: Mapping[str, Any] | None = None) -> bytes:
    """Return the bytes of a safetensors file with `info` as JSON in its header.

    One metadata key holds `info`, because safetensors does not fix the order of several keys.
    """
    header = json.dumps(info or {}, sort_keys=True)
    return safetensors.torch.save(_plain(tensors), {"raydistill": header})


def unpack_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and `info` of `pack_tensors`."""
    tensors = safetensors.torch.load(data)
    # safe_open().metadata() needs a local path: docs/decisions/0005-safetensors-header.md
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, json.loads(header["__metadata__"]["raydistill"])


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def _sha256(tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> str:
    """Return a digest of names, types, shapes, bits and `info`.

    It does not use the file's bytes: the order of tensors in a file is not fixed.
    """
    return hashlib.sha256(
        safetensors.torch.save(_plain(tensors)) + json.dumps(info, sort_keys=True).encode()
    ).hexdigest()


def write_whitening(folder: Folder, whitening: Whitening) -> None:
    """Write `mean` [D], `forward` and `inverse` [D, D], and `eps` in the header.

    D = C H W, in that order.
    """
    tensors = {"mean": whitening.mean_D, "forward": whitening.forward_DD, "inverse": whitening.inverse_DD}
    write_tensors(folder, WHITENING, tensors, {"eps": whitening.eps})


def read_whitening(folder: Folder) -> Whitening:
    """Return the whitening; raise ArtifactCorrupt where the file is damaged."""
    tensors, info = read_tensors(folder, WHITENING)
    try:
        return Whitening(tensors["mean"], tensors["forward"], tensors["inverse"], info["eps"])
    except KeyError as error:
        raise ArtifactCorrupt(f"'{WHITENING}' lacks {error}", folder.uri, "write it again") from error


def write_normalisation(folder: Folder, normalisation: AnyNormalisation) -> dict[str, Any]:
    """Return the header entries that undo a normalisation.

    A whitening is written into a file of its own: its matrices are larger than most sets of images.
    """
    if isinstance(normalisation, Whitening):
        write_whitening(folder, normalisation)
        return {"whitening": WHITENING}
    return {"mean": normalisation.mean_C, "std": normalisation.std_C}


def read_normalisation(folder: Folder, info: Mapping[str, Any]) -> AnyNormalisation:
    """Return the normalisation of header entries; KeyError without one."""
    if "whitening" in info:
        return read_whitening(folder)
    return Normalisation(tuple(info["mean"]), tuple(info["std"]))
