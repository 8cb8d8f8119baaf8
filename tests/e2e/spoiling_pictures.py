"""Write pictures and arrays that cannot be read, for the rows of `bad_pictures`."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from astropy.io import fits

LIGHT = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32)


def zipped(names: dict[str, bytes] | None = None, **header: int) -> Callable[[Path], None]:
    """Write `x.zip` with the pictures or other files; `header` sets directory fields."""
    fields = {"flags": (8, "<H"), "size": (24, "<I")}

    def make(root: Path) -> None:
        files = names or {path.name: path.read_bytes() for path in (root / "pictures").iterdir()}
        with zipfile.ZipFile(root / "x.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        content = bytearray((root / "x.zip").read_bytes())
        for name, value in header.items():
            offset, kind = fields[name]
            struct.pack_into(kind, content, content.index(b"PK\x01\x02") + offset, value)
        (root / "x.zip").write_bytes(content)

    return make


def faint_arrays(root: Path) -> None:
    """Write pictures as floats around 0.001."""
    for n in range(60):
        np.save(root / "pictures" / f"{n}.npy", LIGHT[0] / 1000)


def bands_in_pages(root: Path) -> None:
    """Write each picture as a TIFF of three pages."""
    for n in range(60):
        tifffile.imwrite(root / "pictures" / f"{n}.tif", LIGHT, photometric="minisblack")


def bands_on_a_bright_sky(root: Path) -> None:
    (root / "bands").mkdir()
    for n in range(60):
        fits.PrimaryHDU(LIGHT + 1000).writeto(root / "bands" / f"{n}.fits")


def bands_of_one_name(root: Path) -> None:
    (root / "bands").mkdir()
    for n in range(60):
        layers = [fits.ImageHDU(band, name="SCI") for band in LIGHT]
        for number, layer in enumerate(layers, start=1):
            layer.ver = number
        fits.HDUList([fits.PrimaryHDU(), *layers]).writeto(root / "bands" / f"{n}.fits")


def npz(**arrays: Any) -> Callable[[Path], None]:
    return lambda root: np.savez(root / "a.npz", **arrays)


def hdf5(**arrays: Any) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        with h5py.File(root / "a.h5", "w") as file:
            for name, values in arrays.items():
                file[name] = values

    return make


def array_without_its_data(root: Path) -> None:
    """Announce a billion pictures in a HDF5 file of some kilobytes."""
    with h5py.File(root / "a.h5", "w") as file:
        file.create_dataset("images", (10**9, 69, 69, 3), np.uint8, chunks=(1, 69, 69, 3))


def column(values: Any) -> Callable[[Path], None]:
    """Write `v.parquet` with this column of pictures."""
    return lambda root: pq.write_table(
        pa.table({"id_str": [str(n) for n in range(len(values))], "image": values}), root / "v.parquet"
    )
