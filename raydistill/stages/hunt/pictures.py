"""Prepare the pictures of a survey for learners on pixels, block by block.

A block of the predictions gives one file of the pictures of its usable objects, uint8 [n, H, W, 3].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Images
from raydistill.datasets.base import DataSet
from raydistill.pipeline.plan import Plan
from raydistill.runtime.ray_data import finish_blocks
from raydistill.stages.hunt.science.pixels import Pixels
from raydistill.stages.hunt.survey import HuntedSurvey
from raydistill.storage import Folder, checked
from raydistill.surveys.preparing import Preparation, prepare_picture
from raydistill.surveys.readers import Reader

PICTURES = "pictures"


@dataclass(frozen=True)
class BlockPreparer:
    """Prepare the pictures of one block of usable objects, and write its file."""

    folder: str
    reader: Reader
    images: Images | DataSet
    preparation: Preparation

    def __call__(self, block: pa.Table) -> int:
        """Prepare one block, and return how many pictures it has."""
        number = block["block"][0].as_py()
        pictures = [prepare_picture(source, "", self.images, self.preparation)[1] for source in self.reader.read(block)]
        packed = pack_tensors({PICTURES: torch.tensor(np.stack(pictures))})
        checked.write(Folder(self.folder), block_name(number), packed)
        return len(pictures)


def prepare_pictures(plan: Plan, survey: HuntedSurvey, folder: Folder) -> None:
    """Write the files of all blocks that are missing in a folder."""
    blocks = []
    for number, (rows, _) in enumerate(survey.blocks()):
        if len(rows):
            objects = survey.pictures.objects.take(pa.array(rows)).combine_chunks()
            table = objects.append_column("block", pa.array([number] * len(rows), pa.int64()))
            blocks.append((block_name(number), len(rows), table))
    pictures = survey.pictures
    preparer = BlockPreparer(folder.uri, pictures.reader, pictures.images, pictures.preparation)
    finish_blocks(folder, blocks, preparer, plan.config.resources, stage="hunt", doing="preparing")


def read_block(folder: Folder, number: int) -> Pixels:
    """Return the pictures of a block, uint8 [n, H, W, 3]."""
    tensors, _ = unpack_tensors(checked.require(folder, block_name(number)))
    pixels: Pixels = tensors[PICTURES].numpy()
    return pixels


def block_name(number: int) -> str:
    """Return the name of the file of a block."""
    return f"{PICTURES}-{number:06d}.safetensors"
