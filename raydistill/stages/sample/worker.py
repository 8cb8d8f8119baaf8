"""The Ray task of the stage: make the pictures of a block, and write them.

{index, condition, label, ...} of one block  ->  {block, kept}
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch

from raydistill.artifacts.tables import pack_table
from raydistill.galaxies.pictures.images import encode_png
from raydistill.learning.architectures import Architecture
from raydistill.runtime.resources import device_of
from raydistill.stages.sample.artifact import png_text
from raydistill.stages.sample.pictures import Columns, PictureSource
from raydistill.stages.sample.recognition import Recogniser
from raydistill.stages.sample.requests import BLOCK_SCHEMA
from raydistill.storage import Folder, checked

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
    threads, gpus
        Torch threads and GPUs of a worker.
    own
        The networks of the user's config.
    """

    folder: str
    pictures: PictureSource
    recogniser: tuple[str, str] | None
    min_probability: float
    threads: int
    gpus: float
    own: tuple[Architecture, ...] = ()

    def __call__(self, request: pa.Table) -> pa.Table:
        """Make one block, write its kept rows, and return one row of `FINISHED`."""
        torch.set_num_threads(self.threads)
        device = device_of(self.gpus)
        images_BHWC, known = self.pictures.make(request, device)
        rows = _with_images(request, images_BHWC, known, self.pictures.describe(request))
        if self.recogniser is not None:
            images, labels = torch.as_tensor(images_BHWC), request["label"].to_numpy()
            recognised_B = _recogniser(*self.recogniser, device, self.own).probability(images, labels)
            rows = _recognised(rows, recognised_B.cpu().double().numpy(), self.min_probability)
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


@lru_cache(maxsize=1)
def _recogniser(store: str, curated: str, device: str, own: tuple[Architecture, ...]) -> Recogniser:
    return Recogniser.load(store, curated, device, own)
