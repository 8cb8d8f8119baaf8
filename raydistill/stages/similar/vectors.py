r"""Search the features of a survey for those nearest to some galaxies, exactly.

Features are standardised over the survey and scaled to unit length, v. With galaxies A to be like and
B to be unlike, the query is (Rocchio 1971, *The SMART retrieval system*, ch. 14)

    q = mean_A v - w mean_B v,    similarity(n) = v_n . q / |q|

so with one galaxy it is the cosine similarity. All N similarities are computed: a product of N x F
numbers, which for a million galaxies takes less time than to load the pictures of the sheet.

Shapes: N galaxies, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import ArtifactIncompatible, ConfigError, nearest
from raydistill.stages.predict.artifact import PredictionSet
from raydistill.statistics.standardise import Standardiser
from raydistill.storage import Folder, checked

VECTORS, IDS, RECORD = "vectors.npy", "ids.arrow", "vectors.json"
ROWS = 65536  # of a product at once

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """The standardised features of a survey, of unit length.

    Parameters
    ----------
    ids
        Object ids, N strings.
    vectors_NF
        float32; a file on a disk is mapped.
    """

    ids: pa.Array
    vectors_NF: Floats

    @classmethod
    def open(cls, folder: Folder, predictions: PredictionSet) -> Vectors:
        """Return the vectors in a folder; they are written there first if necessary.

        Raises
        ------
        ArtifactIncompatible
            The predictions have no features, or all objects have the same.
        """
        if checked.recorded(folder, RECORD) is None:
            write_vectors(folder, predictions)
        ids = pa.ipc.open_file(pa.memory_map(str(folder.local(IDS)))).read_all()["object_id"].combine_chunks()
        return cls(ids, np.load(folder.local(VECTORS), mmap_mode="r", allow_pickle=False))

    def rows(self, ids: Sequence[str], key: str) -> list[int]:
        """Return the rows of ids. ConfigError if the survey has no features of one."""
        found = pc.index_in(pa.array(ids, pa.string()), self.ids).to_pylist()
        for name, row in zip(ids, found, strict=True):
            if row is None:
                what = f"the survey has no galaxy '{name}' whose picture could be used"
                few = self.ids.slice(0, 100_000).to_pylist()
                raise ConfigError(what, key, nearest(name, few))
        return found

    def similarities(self, more: Sequence[int], less: Sequence[int] = (), weight: float = 0.5) -> Floats:
        """Return the similarity of all galaxies to a query, float32 [N]."""
        query_F = self.vectors_NF[list(more)].mean(axis=0, dtype=np.float64)
        if len(less):
            query_F -= weight * self.vectors_NF[list(less)].mean(axis=0, dtype=np.float64)
        query_F = (query_F / max(float(np.linalg.norm(query_F)), 1e-12)).astype(np.float32)
        parts = [self.vectors_NF[n : n + ROWS] @ query_F for n in range(0, len(self.vectors_NF), ROWS)]
        return np.concatenate(parts)

    def nearest(self, more: Sequence[int], less: Sequence[int] = (), weight: float = 0.5, count: int = 24) -> Any:
        """Return rows and similarities of the nearest galaxies, best first.

        Those that are given are left out.

        Of equal similarities the earlier row is first.
        """
        similarity_N = self.similarities(more, less, weight)
        similarity_N[[*more, *less]] = -np.inf
        count = min(count, len(similarity_N) - len(more) - len(less))
        if count <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        least = np.partition(similarity_N, -count)[-count]
        rows = np.flatnonzero(similarity_N >= least)
        rows = rows[np.argsort(-similarity_N[rows], kind="stable")][:count]
        return rows, similarity_N[rows]


def write_vectors(folder: Folder, predictions: PredictionSet) -> None:
    """Write the vectors of a set of predictions, in blocks. Raises as `Vectors.open`."""
    width, where = predictions.summary.num_features, predictions.folder.uri
    if not width:
        fix = "set predict.features=true and run 'raydistill predict' again"
        raise ArtifactIncompatible("these predictions have no features", where, fix)
    standardiser = Standardiser.of(values_NF for _, values_NF in _blocks(predictions))
    if not standardiser.count:
        raise ArtifactIncompatible("no object has features that are finite numbers", where, "set another `features`")
    if not standardiser.std_F.any():
        raise ArtifactIncompatible("all objects have the same features", where, "set another `features`")
    with folder.writing(VECTORS) as path, folder.writing(IDS) as ids_path:
        vectors_NF = np.lib.format.open_memmap(path, "w+", np.float32, (standardiser.count, width))
        schema, first = pa.schema([("object_id", pa.string())]), 0
        with pa.ipc.new_file(str(ids_path), schema) as writer:
            for ids, values_NF in _blocks(predictions):
                scaled_NF = standardiser.apply(values_NF)
                scaled_NF /= np.linalg.norm(scaled_NF, axis=1, keepdims=True).clip(1e-12)
                vectors_NF[first : first + len(ids)] = scaled_NF
                writer.write_table(pa.table({"object_id": ids}, schema))
                first += len(ids)
        vectors_NF.flush()
    checked.record(folder, RECORD, {name: folder.sha256(name) for name in (VECTORS, IDS)})


def _blocks(predictions: PredictionSet) -> Iterator[tuple[pa.Array, npt.NDArray[np.float16]]]:
    """Yield ids and finite features of the objects whose picture was used."""
    for _, ids, values_NF in predictions.feature_blocks():
        finite = np.isfinite(values_NF).all(axis=1)  # one NaN would be in the mean of all
        yield ids.filter(pa.array(finite)), values_NF[finite]
