"""Write prototypes as a multi-extension FITS file.

- The primary header holds the provenance.
- Each prototype is a `PROTO` image extension (EXTVER 1, 2, …). Its axes are NAXIS1 = x (columns),
  NAXIS2 = y (rows) and NAXIS3 = colour (red, green, blue). `ds9 -rgbcube "prototypes.fits[1]"`
  shows it.
- A `LABELS` table holds the class of each prototype.

FITS counts rows from the bottom, JPEG from the top. Writing flips the rows, so DS9 shows the galaxy
as the picture does and a spiral keeps its handedness. The file holds no date: equal prototypes give
equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from raydistill.errors import ArtifactError, nearest

Card = str | int | float | bool

# keyword: (type, comment). A FITS keyword has at most eight letters. The comments are part of the
# content digest.
CARDS: dict[str, tuple[type, str]] = {
    "IPC": (int, "prototypes per class"),
    "SEED": (int, "root seed of the run"),
    "DIGEST": (str, ""),  # 64 hexadecimal digits fill the card
    "SURVEY": (str, "the real galaxies"),
    "SIMULATD": (bool, "T: distilled from a simulated survey"),
    "ALIGNED": (bool, "T: galaxies turned, long axis level"),
    "STRETCH": (str, "flux to display units"),
    "PIXSCALE": (float, "[R90/pix] Petrosian R90 (r band) per pixel"),
    "LICENCE": (str, "licence of the input"),
    "ORIGIN": (str, "written by"),
}
REQUIRED = ("IPC", "SEED", "DIGEST", "STRETCH", "SIMULATD")


def write_prototypes(
    path: str | PathLike[str] | BinaryIO,
    images: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    class_names: Sequence[str],
    header: Mapping[str, Card],
) -> None:
    """Write prototypes to a multi-extension FITS file with deterministic bytes.

    An existing file is replaced.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    images
        float32 [N, H, W, 3] in display units, first row on top; transpose torch's [N, 3, H, W].
        Distillation produces values outside [0, 1]: they are kept.
    labels
        [N] integers, indices into `class_names` (the largest entry of a soft label).
    class_names
        Any text: non-ASCII characters are escaped in the file.
    header
        Values of the cards in `CARDS`, at least those in `REQUIRED`. Leave out an unknown PIXSCALE.

    Raises
    ------
    ArtifactError
        A shape, label, value or card is not as described.
    """
    where = _where(path)
    _check_images(images, labels, class_names, where)
    primary = fits.PrimaryHDU()
    cards = _check_cards({"ORIGIN": "raydistill", **header}, where)
    for keyword, value in cards.items():
        simulated = keyword == "SURVEY" and cards["SIMULATD"]
        primary.header[keyword] = _with_comment(value, "the simulated galaxies" if simulated else CARDS[keyword][1])
    primary.header["NCLASS"] = (len(class_names), "number of classes")
    for label, name in enumerate(class_names):
        primary.header[f"CLASS{label}"] = _escape(name)
    primary.header["COMMENT"] = "PROTO: axis 1 = x, 2 = y (row 1 is the bottom), 3 = red, green, blue."
    primary.header["COMMENT"] = "Values: 0 = black, 1 = white after STRETCH; not flux."
    primary.header["COMMENT"] = "Prototypes have no orientation on the sky."
    prototypes = [_prototype_hdu(images[i], int(labels[i]), class_names, i + 1, cards) for i in range(len(images))]
    fits.HDUList([primary, *prototypes, _label_table(labels, class_names)]).writeto(path, overwrite=True)


def _prototype_hdu(
    image: npt.NDArray[np.floating], label: int, class_names: Sequence[str], version: int, cards: Mapping[str, Card]
) -> fits.ImageHDU:
    planes = np.ascontiguousarray(
        np.moveaxis(image[::-1], -1, 0), dtype=np.float32
    )  # [3, H, W]: FITS lists axes backwards
    hdu = fits.ImageHDU(planes, name="PROTO", ver=version)
    hdu.header["CLASS"] = _with_comment(_escape(class_names[label]), "class it teaches")
    hdu.header["LABEL"] = (label, "its number, from 0")
    hdu.header["CTYPE3"] = ("RGB", "planes 1, 2, 3 are red, green, blue")
    # Users often save an extension alone, so it repeats these cards.
    for keyword in ("IPC", "SEED", "DIGEST", "SIMULATD", "ALIGNED", "STRETCH", "PIXSCALE"):
        if keyword in cards:
            hdu.header[keyword] = _with_comment(cards[keyword], CARDS[keyword][1])
    return hdu


def _label_table(labels: npt.NDArray[np.integer], class_names: Sequence[str]) -> fits.BinTableHDU:
    names = [_escape(class_names[label]) for label in labels]
    columns = [
        fits.Column("EXTVER", "J", array=np.arange(1, len(labels) + 1)),
        fits.Column("LABEL", "J", array=labels),
        fits.Column("CLASS", f"{max(1, *map(len, names))}A", array=names),
    ]
    return fits.BinTableHDU.from_columns(columns, name="LABELS")


def _check_cards(header: Mapping[str, Card], where: str) -> dict[str, Card]:
    """Return the cards in the order of `CARDS`.

    Raise ArtifactError for an unknown, missing or wrong one.
    """
    for keyword in header:
        if keyword not in CARDS:
            raise ArtifactError(f"unknown FITS card {keyword}", where, nearest(keyword, tuple(CARDS)))
    for keyword in REQUIRED:
        if keyword not in header:
            raise ArtifactError(
                f"the FITS card {keyword} is missing", where, f"give it in the header ({CARDS[keyword][1]})"
            )
    return {keyword: _check_card(keyword, header[keyword], where) for keyword in CARDS if keyword in header}


def _check_card(keyword: str, value: Card | np.generic, where: str) -> Card:
    kind = CARDS[keyword][0]
    plain: Card = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bool) != (kind is bool) or not isinstance(plain, (int, float) if kind is float else kind):
        raise ArtifactError(f"the FITS card {keyword} is {plain!r}", where, f"give it as {kind.__name__}")
    if isinstance(plain, float) and not np.isfinite(plain):
        raise ArtifactError(f"the FITS card {keyword} is {plain}", where, "leave it out when it is unknown")
    return _escape(plain) if isinstance(plain, str) else plain


def _check_images(
    images: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], class_names: Sequence[str], where: str
) -> None:
    if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise ArtifactError(
            f"images have shape {images.shape}", where, "give [N, H, W, 3] with the colour last and N > 0"
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise ArtifactError(f"images are {images.dtype}", where, "divide by 255 to give float32 in [0, 1]")
    if not np.isfinite(images).all():
        raise ArtifactError("images hold NaN or infinity", where, "take the last good state of the distillation")
    if labels.shape != (len(images),):
        raise ArtifactError(
            f"{len(images)} images but labels of shape {labels.shape}", where, "give one integer per image"
        )
    if not 0 <= labels.min() <= labels.max() < len(class_names):
        what = f"labels run from {labels.min()} to {labels.max()} for {len(class_names)} class names"
        raise ArtifactError(what, where, "labels index the class names, from 0")


def _where(path: str | PathLike[str] | BinaryIO) -> str:
    return fspath(path) if isinstance(path, (str, PathLike)) else "FITS stream"


def _with_comment(value: Card, comment: str) -> tuple[Card, str]:
    """Return a value and its comment, or "" where the card would be too long.

    astropy would warn of a card of more than 80 characters.
    """
    return value, comment if len(str(value)) + len(comment) <= 60 else ""


def _escape(name: str) -> str:
    return name.encode("unicode_escape").decode("ascii")
