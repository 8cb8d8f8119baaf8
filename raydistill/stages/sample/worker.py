"""The Ray task of the stage: make the pictures of a block, and write them.

{index, condition, label, ...} of one block  ->  {block, kept}
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from raydistill.artifacts.tables import decode_images, pack_table
from raydistill.diffusion.model import Generator, to_pixels, to_tensors
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import sample
from raydistill.galaxies.pictures.images import encode_png
from raydistill.learning.architectures import Architecture
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in
from raydistill.seeding import generator as random_generator
from raydistill.simulation.config import NUM_CLASSES, SDSS_PSF, Telescope
from raydistill.simulation.injections import Injection
from raydistill.stages.experts.classify.ensemble import predict_by_experts
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.sample.artifact import png_text
from raydistill.stages.sample.sources.requests import BLOCK_SCHEMA, read_conditions
from raydistill.storage import Folder, checked
from raydistill.surveys.survey import Preparation

FINISHED = pa.schema([("block", pa.string()), ("kept", pa.int64())])


@dataclass(frozen=True)
class BlockSampler:
    """Make blocks. A worker receives it by pickle, and loads the networks once.

    Attributes
    ----------
    folder
        URI of the folder for the files of finished blocks.
    pictures
        Makes the pictures.
    recogniser
        URIs of the experts' trajectories and of their curated set; None: no filter.
    min_probability
        Threshold of the filter.
    processor
        Torch threads and GPUs of a worker.
    networks
        The networks of the user's config.
    """

    folder: str
    pictures: PictureSource
    recogniser: tuple[str, str] | None
    min_probability: float
    processor: Processor
    networks: tuple[Architecture, ...] = ()

    def __call__(self, request: pa.Table) -> pa.Table:
        """Make one block, write its kept rows, and return one row of `FINISHED`."""
        device = self.processor.enter()
        images_BHWC, known = self.pictures.make(request, device)
        rows = _with_images(request, images_BHWC, known, self.pictures.describe(request))
        if self.recogniser is not None:
            labels_B = request["label"].to_numpy()
            recognised_B = recognise(self.recogniser, device, self.networks, images_BHWC, labels_B)
            rows = _recognised(rows, recognised_B, self.min_probability)
        name = request["block"][0].as_py()
        checked.write(Folder(self.folder), name, pack_table(rows))
        return pa.Table.from_pylist([{"block": name, "kept": len(rows)}], FINISHED)


def _with_images(request: pa.Table, images_BHWC: np.ndarray, known: Columns, descriptions: list[str]) -> pa.Table:
    """Return the rows of a block with their PNG files and the columns known now."""
    keys = zip(descriptions, request["seed"].to_pylist(), request["index"].to_pylist(), strict=True)
    files = [encode_png(image, png_text(*key)) for image, key in zip(images_BHWC, keys, strict=True)]
    given = {name: request[name] for name in request.column_names}
    made = {name: pa.array(values, BLOCK_SCHEMA.field(name).type) for name, values in known.items()}
    columns = given | made | {"image": pa.array(files, pa.binary())}
    return pa.table({name: columns[name] for name in BLOCK_SCHEMA.names}, schema=BLOCK_SCHEMA)


def _recognised(rows: pa.Table, recognised_B: np.ndarray, min_probability: float) -> pa.Table:
    """Return the rows that are recognised, with their probability."""
    column = BLOCK_SCHEMA.get_field_index("recognised")
    rows = rows.set_column(column, BLOCK_SCHEMA.field(column), pa.array(recognised_B))
    return rows.filter(pa.array(recognised_B >= min_probability))


def recognise(
    experts: tuple[str, str], device: str, networks: tuple[Architecture, ...], images_NHWC: np.ndarray,
    labels_N: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return the experts' mean probability of each picture's own class, float64 [N].

    Parameters
    ----------
    experts, networks
        As in `BlockSampler`.
    device
        Torch device of the experts.
    images_NHWC
        uint8 [N, H, W, 3].
    labels_N
        Integers [N].
    """
    mean_NK = predict_by_experts(*experts, device, images_NHWC, features=False, networks=networks).mean_NK
    return mean_NK.cpu().double().numpy()[np.arange(len(labels_N)), labels_N]


# Make the pictures of a block: sample, inject into real ones, or simulate them.
#
# A class of this module is the part of a source that runs on a worker, which receives it by pickle.

Columns = Mapping[str, Any]  # of the block, by name, in place of those of the request


class PictureSource(ABC):
    """Make the pictures of a block."""

    @abstractmethod
    def make(self, request: pa.Table, device: str) -> tuple[np.ndarray, Columns]:
        """Return uint8 [B, H, W, 3], and columns that are known only now.

        Parameters
        ----------
        request
            Rows of `requests.REQUEST_SCHEMA`.
        device
            Torch device of a network.
        """

    @abstractmethod
    def describe(self, request: pa.Table) -> list[str]:
        """Return how each picture is made, for its PNG file."""


@dataclass(frozen=True)
class GeneratorPictures(PictureSource):
    """Sample a generator.

    Attributes
    ----------
    generator
        URI of the generator.
    sampling
        Solver and guidance.
    strength
        Time of the first states; below 1 they come from the pictures of the request.
    """

    generator: str
    sampling: Sampling
    strength: float = 1.0

    def make(self, request: pa.Table, device: str) -> tuple[np.ndarray, Columns]:
        """Return the samples."""
        network = _generator(self.generator, device)
        return sample_images(network, request, self.sampling, self.strength).numpy(), {}

    def describe(self, request: pa.Table) -> list[str]:
        """Return the digest of the generator."""
        return [f"generator {digest}" for digest in request["generator"].to_pylist()]


@dataclass(frozen=True)
class InjectedPictures(PictureSource):
    """Apply a model to the pictures of the request.

    Attributes
    ----------
    model
        The model, with its final ranges.
    image_size
        Side of the pictures in pixels.
    """

    model: Injection
    image_size: int

    def make(self, request: pa.Table, device: str) -> tuple[np.ndarray, Columns]:
        """Return the pictures; `injected` is null where the model changes no level."""
        hosts_BHWC = decode_images(request["picture"], self.image_size).numpy()
        images_BHWC, parameters = np.empty_like(hosts_BHWC), []
        for row, (seed, index) in enumerate(keys_of(request)):
            parameters.append(self.model.draw(np.random.default_rng(fold_in(seed, "injection", index))))
            images_BHWC[row] = self.model.apply(hosts_BHWC[row], parameters[-1])
        changed_B = (images_BHWC != hosts_BHWC).any(axis=(1, 2, 3))
        injected = [self.model.kind if changed else None for changed in changed_B]
        return images_BHWC, {"parameters": [list(settings.items()) for settings in parameters], "injected": injected}

    def describe(self, request: pa.Table) -> list[str]:
        """Return the model and the galaxy."""
        return [f"{self.model.kind} injected into {origin}" for origin in request["origin"].to_pylist()]


@dataclass(frozen=True)
class SimulatedPictures(PictureSource):
    """Simulate galaxies, and prepare their pictures as those of a curated set.

    Attributes
    ----------
    ranges
        Ranges of true parameters.
    telescope
        The instrument.
    picture_size
        Side of the picture before it is cropped [px].
    preparation
        Of the picture.
    """

    ranges: Mapping[str, tuple[float, float]]
    telescope: Telescope
    picture_size: int
    preparation: Preparation

    def make(self, request: pa.Table, device: str) -> tuple[np.ndarray, Columns]:
        """Return the pictures, passed through JPEG as those of the simulated survey."""
        from raydistill.simulation.render import encode_jpeg, render

        pictures, truths = [], []
        for (seed, index), label in zip(keys_of(request), request["simulated_class"].to_pylist(), strict=True):
            root = fold_in(seed, "simulator", index)
            truth = self._truth(root, label)
            jpeg = encode_jpeg(render(truth, self.picture_size, fold_in(root, "picture"), self.telescope))
            picture = np.asarray(Image.open(io.BytesIO(jpeg), formats=["JPEG"]))
            pictures.append(self.preparation.apply(picture))
            truths.append({field.name.rstrip("_"): float(getattr(truth, field.name)) for field in fields(truth)})
        known = {"petro_r90": [t["petro_r90"] for t in truths], "parameters": [list(t.items()) for t in truths]}
        return np.stack(pictures), known

    def _truth(self, root: int, label: int) -> Any:
        from raydistill.simulation.simulate import draw_lens, draw_truth

        weights = tuple(float(number == label) for number in range(NUM_CLASSES)) if label < NUM_CLASSES else None
        truth = draw_truth(np.random.default_rng(fold_in(root, "truth")), weights)
        if label >= NUM_CLASSES:
            truth = draw_lens(truth, np.random.default_rng(fold_in(root, "lens")))
        truth = replace(truth, psf_fwhm=truth.psf_fwhm * (self.telescope.psf_fwhm / SDSS_PSF))
        rng = np.random.default_rng(fold_in(root, "parameters"))
        changed: dict[str, Any] = {}
        for name, (low, high) in self.ranges.items():
            whole = isinstance(getattr(truth, name), int)
            changed[name] = int(rng.integers(int(low), int(high) + 1)) if whole else float(rng.uniform(low, high))
        return replace(truth, **changed)

    def describe(self, request: pa.Table) -> list[str]:
        """Return that the picture is simulated."""
        return ["simulator"] * len(request)


def keys_of(request: pa.Table) -> list[tuple[int, int]]:
    """Return the seed and the index of each row."""
    return list(zip(request["seed"].to_pylist(), request["index"].to_pylist(), strict=True))


def sample_images(generator: Generator, request: pa.Table, sampling: Sampling, strength: float = 1.0) -> Tensor:
    """Return the images of a block.

    Parameters
    ----------
    generator
        A trained generator.
    request
        Rows with `condition`, `index` and `seed`, and `picture` if `strength` is below 1.
    sampling
        Solver and guidance.
    strength
        Time of the first states.

    Returns
    -------
    torch.Tensor
        uint8 [B, H, W, 3] on the CPU. The noise of each image follows from its seed and index.
    """
    shape = (3, generator.image_size, generator.image_size)
    noise_BCHW = torch.stack(
        [torch.randn(shape, generator=random_generator(s, "sample", i)) for s, i in keys_of(request)]
    )
    start_BCHW = None if strength == 1 else to_tensors(decode_images(request["picture"], generator.image_size))
    conditions = read_conditions(request["condition"])
    images_BCHW = sample(generator, conditions, noise_BCHW, sampling, start_BCHW, strength)
    return torch.as_tensor(to_pixels(images_BCHW.cpu()))


@lru_cache(maxsize=1)
def _generator(uri: str, device: str) -> Generator:
    return GeneratorArtifact.open(uri, verify=False).load().to(device).eval()  # the driver has verified it
