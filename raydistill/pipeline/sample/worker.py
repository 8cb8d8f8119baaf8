"""The Ray task of the stage: sample one block, and write it to a file.

{index, condition, label, ...} of one block  ->  {block, kept}
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raydistill.artifacts.generator import GeneratorArtifact
from raydistill.artifacts.synthetic import png_text
from raydistill.diffusion.model import Generator
from raydistill.diffusion.pictures import to_pixels
from raydistill.diffusion.sampling import Sampling, sample
from raydistill.galaxies.pictures.images import encode_png
from raydistill.pipeline.runtime.resources import device_of
from raydistill.pipeline.sample.recognition import Recogniser
from raydistill.pipeline.sample.requests import BLOCK_SCHEMA, read_conditions
from raydistill.seeding import generator as random_generator
from raydistill.storage import Folder

FINISHED = pa.schema([("block", pa.string()), ("kept", pa.int64())])


@dataclass(frozen=True)
class BlockSampler:
    """Sample blocks. A worker receives it by pickle, and loads the networks once.

    Attributes
    ----------
    folder
        URI of the folder for the files of finished blocks.
    generator
        URI of the generator.
    sampling
        Solver and guidance.
    recogniser
        URIs of the experts' trajectories and of their curated set; None: no filter.
    min_probability
        Threshold of the filter.
    threads, gpus
        Torch threads and GPUs of a worker.
    """

    folder: str
    generator: str
    sampling: Sampling
    recogniser: tuple[str, str] | None
    min_probability: float
    threads: int
    gpus: float

    def __call__(self, request: pa.Table) -> pa.Table:
        """Sample one block, write its kept rows, and return one row of `FINISHED`."""
        torch.set_num_threads(self.threads)
        device = device_of(self.gpus)
        images_BHWC = sample_images(_generator(self.generator, device), request, self.sampling)
        rows = _with_images(request, images_BHWC.numpy())
        if self.recogniser is not None:
            recognised_B = _recogniser(*self.recogniser, device).probability(images_BHWC, request["label"].to_numpy())
            rows = _recognised(rows, recognised_B.cpu().double().numpy(), self.min_probability)
        name = request["block"][0].as_py()
        with Folder(self.folder).writing(name) as path:
            pq.write_table(rows, path, compression="zstd")
        return pa.Table.from_pylist([{"block": name, "kept": len(rows)}], FINISHED)


def sample_images(generator: Generator, request: pa.Table, sampling: Sampling) -> Tensor:
    """Return the images of a block.

    Parameters
    ----------
    generator
        A trained generator.
    request
        Rows with `condition`, `index` and `seed`.
    sampling
        Solver and guidance.

    Returns
    -------
    torch.Tensor
        uint8 [B, H, W, 3] on the CPU. The noise of each image follows from its seed and index.
    """
    shape = (3, generator.image_size, generator.image_size)
    pairs = zip(request["seed"].to_pylist(), request["index"].to_pylist(), strict=True)
    noise_BCHW = torch.stack([torch.randn(shape, generator=random_generator(s, "sample", i)) for s, i in pairs])
    images_BCHW = sample(generator, read_conditions(request["condition"]), noise_BCHW, sampling)
    return torch.as_tensor(to_pixels(images_BCHW.cpu()))


def _with_images(request: pa.Table, images_BHWC: np.ndarray) -> pa.Table:
    """Return the rows of a block with their PNG files."""
    keys = zip(*(request[name].to_pylist() for name in ("generator", "seed", "index")), strict=True)
    files = [encode_png(image, png_text(*key)) for image, key in zip(images_BHWC, keys, strict=True)]
    columns = {name: request[name] for name in request.column_names} | {"image": pa.array(files, pa.binary())}
    return pa.table({name: columns[name] for name in BLOCK_SCHEMA.names}, schema=BLOCK_SCHEMA)


def _recognised(rows: pa.Table, recognised_B: np.ndarray, min_probability: float) -> pa.Table:
    """Return the rows that are recognised, with their probability."""
    column = BLOCK_SCHEMA.get_field_index("recognised")
    rows = rows.set_column(column, BLOCK_SCHEMA.field(column), pa.array(recognised_B))
    return rows.filter(pa.array(recognised_B >= min_probability))


@lru_cache(maxsize=1)
def _generator(uri: str, device: str) -> Generator:
    return GeneratorArtifact.open(uri, verify=False).load().to(device).eval()  # the driver has verified it


@lru_cache(maxsize=1)
def _recogniser(store: str, curated: str, device: str) -> Recogniser:
    return Recogniser.load(store, curated, device)
