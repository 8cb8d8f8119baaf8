"""Give sets of pictures to Hugging Face's `datasets` (extra `huggingface`).

| set | columns | splits |
|---|---|---|
| curated | those of `curated.SCHEMA` except `class_name`, and `label` | those that hold galaxies |
| synthetic | those of `synthetic.SCHEMA` except `class_name`, and `label`; `parameters` as JSON | train |
| distilled | `image`, `label`, `target`, `pixel_values` | train |

- `image` is an Image: the PNG files of the set. Those of a distilled set are clipped to [0, 1] and
  rounded to 8 bits, so `pixel_values` holds the network input, float32 [3, H, W], and `target` the
  probability of each class.
- `label` is a ClassLabel, -1 for a picture without a class.
- Rows have the order of the set's `to_torch`.

- `source` names no folder of this machine: a picture from outside `survey.images.root` keeps its
  file name alone.

A set is read in batches: memory does not grow with the number of pictures, unless the
result is held in memory. `exporting.export` writes the same tables as Parquet files.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.exporting.provenance import Provenance, provenance_of
from raydistill.galaxies.pictures.files import is_absolute
from raydistill.galaxies.pictures.images import encode_png
from raydistill.galaxies.selection import SPLITS, Split
from raydistill.imports import import_extra
from raydistill.stages.curate import artifact as curated_sets
from raydistill.stages.curate.artifact import CuratedSet, partition
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.sample import artifact as synthetic_sets
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.storage import Folder, checked

if TYPE_CHECKING:
    from datasets import DatasetDict, DatasetInfo, Features
    from datasets.table import MemoryMappedTable

ROWS = 1024
BUFFER = 1 << 20  # bytes of a column that are read at a time, instead of those of a whole row group
EXTRA = "run pip install 'raydistill[huggingface]'"
TRAIN = "train"

PictureSet = CuratedSet | SyntheticSet | DistilledSet
Batches = Callable[[int], Iterator[pa.Table]]  # by the number of rows of a batch


@dataclass(frozen=True)
class HubSplit:
    """The rows of a split in batches, their number and their approximate bytes."""

    rows: int
    bytes: int
    batches: Batches


@dataclass(frozen=True)
class HubSet:
    """A set of pictures as Hugging Face's `datasets` describes one.

    Attributes
    ----------
    info
        Features, licence, citation and description.
    splits
        The rows by split; their tables have the schema of the features.
    provenance
        Survey, licence and citation of the galaxies.
    content
        Content digest of the artifact.
    """

    info: DatasetInfo
    splits: dict[str, HubSplit]
    provenance: Provenance
    content: str

    @property
    def features(self) -> Features:
        """Return the type of each column."""
        return self.info.features


def import_datasets() -> ModuleType:
    """Import Hugging Face's `datasets`; ConfigError without the package."""
    return import_extra("datasets", "Hugging Face's package 'datasets' is not installed", "huggingface", EXTRA)


def describe(pictures: PictureSet) -> HubSet:
    """Return a set as Hugging Face's `datasets` describes one; no row is read."""
    datasets = import_datasets()
    build = {CuratedSet: _curated, SyntheticSet: _synthetic, DistilledSet: _distilled}[type(pictures)]
    columns, splits = build(pictures)  # type: ignore[operator]  # each takes its own kind
    provenance = provenance_of(pictures)
    features = datasets.Features(columns)
    schema = features.arrow_schema
    info = datasets.DatasetInfo(
        description=provenance.describe(pictures.manifest),
        citation=provenance.citation,
        homepage=provenance.homepage,
        license=provenance.licence,
        features=features,
    )
    cast = {
        name: HubSplit(split.rows, split.bytes, functools.partial(_cast, split.batches, schema))
        for name, split in splits.items()
    }
    return HubSet(info, cast, provenance, pictures.manifest.content)


def to_dataset_dict(pictures: PictureSet, cache_dir: str | os.PathLike[str] | None = None) -> DatasetDict:
    """Return a set as a `datasets.DatasetDict`.

    The fingerprint of each split depends on the content alone.

    Parameters
    ----------
    pictures
        The set.
    cache_dir
        Folder for a file of each split in Arrow's stream format, which is mapped into memory. None:
        hold the rows in memory.
    """
    datasets = import_datasets()
    hub = describe(pictures)
    splits = {}
    for name, split in hub.splits.items():
        rows = _in_memory(hub, split) if cache_dir is None else _mapped(hub, name, split, Folder(cache_dir))
        fingerprint = hashlib.sha256(f"{hub.content} {name}".encode()).hexdigest()[:16]
        splits[name] = datasets.Dataset(
            rows, info=hub.info.copy(), split=datasets.NamedSplit(name), fingerprint=fingerprint
        )
    return datasets.DatasetDict(splits)


def _in_memory(hub: HubSet, split: HubSplit) -> pa.Table:
    return pa.concat_tables([hub.features.arrow_schema.empty_table(), *split.batches(ROWS)])


def _mapped(hub: HubSet, name: str, split: HubSplit, folder: Folder) -> MemoryMappedTable:
    from datasets.table import MemoryMappedTable

    file = f"{hub.content[:16]}-{name}.arrow"
    if checked.recorded(folder, f"{file}.json") is None:
        with folder.writing(file) as path, pa.ipc.new_stream(str(path), hub.features.arrow_schema) as writer:
            for batch in split.batches(ROWS):
                writer.write_table(batch)
        checked.record(folder, f"{file}.json", {file: folder.sha256(file)})
    return MemoryMappedTable.from_file(str(folder.local(file)))


def _cast(batches: Batches, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    from datasets.table import table_cast

    for batch in batches(rows):
        yield table_cast(_without_folders(batch), schema)


def _without_folders(rows: pa.Table) -> pa.Table:
    """Return rows whose sources have no absolute paths and URIs, but their file names."""
    if "source" not in rows.column_names:
        return rows
    sources = rows["source"].combine_chunks()
    path, sha256 = sources.flatten()
    names = pa.array(
        [name if name is None or not is_absolute(name) else name.rpartition("/")[2] for name in path.to_pylist()],
        pa.string(),
    )
    shared = pa.StructArray.from_arrays([names, sha256], fields=list(sources.type), mask=sources.is_null())
    return rows.set_column(rows.column_names.index("source"), "source", shared)


def _curated(curated: CuratedSet) -> tuple[dict[str, Any], dict[str, HubSplit]]:
    splits: dict[str, HubSplit] = {}
    for split in SPLITS:
        names = [partition(split, label) for label in range(curated.num_classes)]
        size = sum(curated.manifest.files[name].bytes for name in names if name in curated.manifest.files)
        if rows := sum(getattr(entry, split) for entry in curated.summary.classes):
            splits[split] = HubSplit(rows, size, functools.partial(ordered_batches, curated, split))
    return _columns(curated_sets.SCHEMA, curated.class_names), splits


def _synthetic(samples: SyntheticSet) -> tuple[dict[str, Any], dict[str, HubSplit]]:
    def batches(size: int) -> Iterator[pa.Table]:
        rows = samples.table()
        at = rows.column_names.index("parameters")
        text = [None if values is None else json.dumps(dict(values)) for values in rows["parameters"].to_pylist()]
        rows = rows.set_column(at, "parameters", pa.array(text, pa.string())).drop_columns(["class_name"])
        for first in range(0, len(rows), size):
            yield rows.slice(first, size)

    columns = _columns(synthetic_sets.SCHEMA, samples.class_names)
    count = sum(entry.kept for entry in (*samples.summary.classes, samples.summary.unlabelled))
    size = sum(entry.bytes for name, entry in samples.manifest.files.items() if name.endswith(".parquet"))
    return columns, {TRAIN: HubSplit(count, size, batches)}


def _columns(schema: pa.Schema, class_names: list[str]) -> dict[str, Any]:
    """Return the features of the columns of a schema, and of `label`."""
    from datasets import ClassLabel, Features, Image

    names = [name for name in schema.names if name != "class_name"]  # `label` has the names
    text = {"parameters": pa.string()}
    plain = pa.schema([(name, text.get(name, schema.field(name).type)) for name in names])
    return {**Features.from_arrow_schema(plain), "image": Image(), "label": ClassLabel(names=class_names)}


def _distilled(distilled: DistilledSet) -> tuple[dict[str, Any], dict[str, HubSplit]]:
    from datasets import Array3D, ClassLabel, Image, List, Value

    images = distilled.selected
    count, channels, height, width = images.images_SCHW.shape
    text = {"Software": "raydistill", "Comment": f"prototype, not a galaxy: distilled set {distilled.manifest.content}"}

    def batches(rows: int) -> Iterator[pa.Table]:
        pixels = images.levels()
        for first in range(0, count, rows):
            part = slice(first, first + rows)
            yield pa.table(
                {
                    "image": pa.array([encode_png(picture, text) for picture in pixels[part]], pa.binary()),
                    "label": distilled.labels[part].numpy(),
                    "target": _nested(images.targets_SK[part].numpy()),
                    "pixel_values": _nested(images.images_SCHW[part].numpy()),
                }
            )

    columns = {
        "image": Image(),
        "label": ClassLabel(names=distilled.class_names),
        "target": List(Value("float32"), length=len(distilled.class_names)),
        "pixel_values": Array3D((channels, height, width), "float32"),
    }
    size = images.images_SCHW.numel() * images.images_SCHW.element_size()
    return columns, {TRAIN: HubSplit(count, size, batches)}


def _nested(values: np.ndarray) -> pa.Array:
    """Return an array [N, …] as N nested lists, without a copy."""
    array = pa.array(np.ascontiguousarray(values).ravel())
    for size in reversed(values.shape[1:]):
        array = pa.ListArray.from_arrays(np.arange(0, len(array) + 1, size, dtype=np.int32), array)
    return array


def ordered_batches(curated: CuratedSet, split: Split, rows: int) -> Iterator[pa.Table]:
    """Yield the rows of a split with their `label`, sorted by object id.

    Not all pictures are held in memory at once.

    Parameters
    ----------
    curated
        The set. Each of its files, one per class, is sorted by object id.
    split
        "train", "validation" or "test".
    rows
        Rows per table.

    Yields
    ------
    pyarrow.Table
        The columns of `curated.SCHEMA` without `class_name`, and `label`.
    """
    labels = curated.table(split, ["object_id"])["label"].to_numpy()
    with ExitStack() as stack:
        files = {label: _Rows(curated, partition(split, label), rows, stack) for label in np.unique(labels).tolist()}
        for first in range(0, len(labels), rows):
            batch = labels[first : first + rows]
            parts = []
            for label, count in zip(*(values.tolist() for values in np.unique(batch, return_counts=True)), strict=True):
                part = files[label].take(count)
                parts.append(part.append_column("label", pa.array(np.full(count, label, np.int32))))
            by_label = np.argsort(batch, kind="stable")
            yield pa.concat_tables(parts).take(np.argsort(by_label)).drop_columns(["class_name"])


class _Rows:
    """The rows of a file of a curated set, in order, a few at a time."""

    def __init__(self, curated: CuratedSet, name: str, rows: int, stack: ExitStack) -> None:
        file = pq.ParquetFile(stack.enter_context(curated.folder.open(name)), buffer_size=BUFFER, pre_buffer=False)
        columns = curated_sets.SCHEMA.names
        self._batches = file.iter_batches(rows, columns=columns, use_threads=False)
        self._held = curated_sets.SCHEMA.empty_table()

    def take(self, count: int) -> pa.Table:
        """Return the next rows."""
        while len(self._held) < count:
            following = pa.Table.from_batches([next(self._batches)]).cast(curated_sets.SCHEMA)
            self._held = pa.concat_tables([self._held, following])
        taken, self._held = self._held.slice(0, count), self._held.slice(count)
        return taken
