"""The figures and FITS file of a distilled set: grid, atlas, curves, prototypes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import WHITENING
from raydistill.config import Config
from raydistill.distillation.coreset import classes_of
from raydistill.distillation.segments import OUTCOME
from raydistill.errors import ArtifactError
from raydistill.figures.drawing import Target
from raydistill.figures.image_grids import atlas, image_grid
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import LAST, SELECTED, SyntheticImages, read_images
from raydistill.stages.distill.counts import amount, counts_of, first_rows
from raydistill.stages.distill.figures import class_means, most_confident, nearest_real_means, training_curves
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run


def draw_grid(
    folder: Folder, name: str, images: SyntheticImages, class_names: list[str], counts: Sequence[int]
) -> None:
    """Draw the images, one row per class."""
    labels = classes_of(counts).numpy()
    with folder.writing(name) as path:
        image_grid(images.display().numpy(), labels, class_names, path)


def publish(config: Config, spec: ArtifactSpec, curated: CuratedSet, run: Run) -> None:
    """Write figures, FITS and summary of the selected images, before the manifest."""
    selected, info = read_images(spec.folder, SELECTED)
    names, counts = curated.class_names, counts_of(info)
    draw_grid(spec.folder, "grid.png", selected, names, counts)
    run.artifact(spec.folder.local("grid.png"))
    save_figure(spec, run, "atlas.png", partial(_atlas, spec=spec, curated=curated, selected=selected, info=info))
    save_figure(spec, run, "history.png", partial(_history, folder=spec.folder))
    labels = classes_of(counts).numpy()
    header: dict[str, Card] = {
        "IPC": info["images_per_class"],
        "SEED": spec.seed,
        "DIGEST": spec.identity[:16],
        "STRETCH": "as the survey's pictures",
        "SIMULATD": curated.summary.simulated,
        "ALIGNED": curated.summary.aligned,
        "SURVEY": curated.summary.survey,
        "LICENCE": getattr(config.survey, "licence", "") or "unknown",
    }
    if frame := getattr(config.survey, "frame_r90", None):
        header["PIXSCALE"] = frame * curated.summary.crop_fraction / curated.summary.image_size
    with spec.folder.writing("prototypes.fits") as path:
        write_prototypes(path, selected.pixels().numpy(), labels, names, header)
    for name in (SELECTED, LAST, WHITENING, "prototypes.fits"):
        if spec.folder.exists(name):
            run.artifact(spec.folder.local(name))
    spec.folder.write("summary.json", json.dumps({**info, "selected_iteration": selected.iteration}, indent=1).encode())


def _atlas(path: Any, spec: ArtifactSpec, curated: CuratedSet, selected: SyntheticImages, info: dict[str, Any]) -> None:
    train = curated.load("train")
    real, labels = train.images_NHWC.numpy(), train.labels_N.numpy()
    images, counts, k = selected.display().numpy(), counts_of(info), curated.num_classes
    firsts = first_rows(counts)
    best = most_confident(labels, train.confidence_N, k, 4)
    has_confidence = np.ptp(train.confidence_N) > 0  # constant in a survey of labels without votes
    survey = f"{curated.summary.survey} (simulated)" if curated.summary.simulated else curated.summary.survey
    atlas(
        path,
        curated.class_names,
        np.split(images, firsts[1:]),
        class_means(real, labels, k),
        [real[index] for index in best],
        list(nearest_real_means(images[firsts], real, min(10, len(real)))[:, None]),
        "   ·   ".join([survey, amount(counts), f"raydistill\u00a0{spec.identity[:12]}"]),
        curated.summary.simulated,
        examples="most confident" if has_confidence else "examples",
    )


def _history(path: Any, folder: Folder) -> None:
    rows = read_table(folder, "history.parquet").to_pydict()
    validations = read_table(folder, "validation.parquet").to_pydict()
    by_iteration = dict(zip(validations["iteration"], validations["balanced_accuracy"], strict=True))
    iterations = [0, *rows["iteration"]]  # 0: the initial images have a validation and no record

    def curve(key: str) -> np.ndarray:
        return np.array([np.nan, *rows[key]])

    is_outcome = curve("expert") == OUTCOME
    training_curves(
        path,
        {
            "iteration": np.array(iterations),
            "matching_loss": np.where(is_outcome, np.nan, curve("loss")),
            **({"outcome_loss": np.where(is_outcome, curve("loss"), np.nan)} if is_outcome.any() else {}),
            "next_epoch_loss": curve("next_epoch_loss"),
            "start_epoch": np.where(is_outcome, np.nan, curve("start_epoch")),
            "max_start_epoch": curve("cap") - 1,
            "student_lr": curve("student_lr"),
            "validation_accuracy": np.array([by_iteration.get(i, np.nan) for i in iterations]),
        },
    )


# Write prototypes as a multi-extension FITS file.
#
# - The primary header holds the provenance.
# - Each prototype is a `PROTO` image extension (EXTVER 1, 2, …). Its axes are NAXIS1 = x (columns),
#   NAXIS2 = y (rows) and NAXIS3 = colour (red, green, blue). `ds9 -rgbcube "prototypes.fits[1]"`
#   shows it.
# - A `LABELS` table holds the class of each prototype.
#
# FITS counts rows from the bottom, JPEG from the top. Writing flips the rows, so DS9 shows the galaxy
# as the picture does and a spiral keeps its handedness. The file holds no date: equal prototypes give
# equal bytes.

Card = str | int | float | bool

# keyword: comment. A FITS keyword has at most eight letters. The comments are part of the content
# digest.
CARDS = {
    "IPC": "prototypes per class, on average",
    "SEED": "root seed of the run",
    "DIGEST": "",  # 64 hexadecimal digits fill the card
    "SURVEY": "the real galaxies",
    "SIMULATD": "T: distilled from a simulated survey",
    "ALIGNED": "T: galaxies turned, long axis level",
    "STRETCH": "flux to display units",
    "PIXSCALE": "[R90/pix] Petrosian R90 (r band) per pixel",
    "LICENCE": "licence of the input",
    "ORIGIN": "written by",
}


def write_prototypes(
    path: Target,
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
        Values of the cards in `CARDS`. Leave out an unknown PIXSCALE.

    Raises
    ------
    ArtifactError
        An image or a card holds NaN or infinity.
    """
    if not np.isfinite(images).all():
        raise ArtifactError("images hold NaN or infinity", str(path), "take the last good state of the distillation")
    primary = fits.PrimaryHDU()
    cards = _cards({"ORIGIN": "raydistill", **header}, str(path))
    for keyword, value in cards.items():
        simulated = keyword == "SURVEY" and cards["SIMULATD"]
        primary.header[keyword] = _with_comment(value, "the simulated galaxies" if simulated else CARDS[keyword])
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
            hdu.header[keyword] = _with_comment(cards[keyword], CARDS[keyword])
    return hdu


def _label_table(labels: npt.NDArray[np.integer], class_names: Sequence[str]) -> fits.BinTableHDU:
    names = [_escape(class_names[label]) for label in labels]
    columns = [
        fits.Column("EXTVER", "J", array=np.arange(1, len(labels) + 1)),
        fits.Column("LABEL", "J", array=labels),
        fits.Column("CLASS", f"{max(1, *map(len, names))}A", array=names),
    ]
    return fits.BinTableHDU.from_columns(columns, name="LABELS")


def _cards(header: Mapping[str, Card], where: str) -> dict[str, Card]:
    """Return the cards in the order of `CARDS`, with escaped text.

    Raise ArtifactError for a number that is not finite.
    """
    for keyword, value in header.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ArtifactError(f"the FITS card {keyword} is {value}", where, "leave it out when it is unknown")
    cards = {keyword: header[keyword] for keyword in CARDS if keyword in header}
    return {keyword: _escape(value) if isinstance(value, str) else value for keyword, value in cards.items()}


def _with_comment(value: Card, comment: str) -> tuple[Card, str]:
    """Return a value and its comment, or "" where the card would be too long.

    astropy would warn of a card of more than 80 characters.
    """
    return value, comment if len(str(value)) + len(comment) <= 60 else ""


def _escape(name: str) -> str:
    return name.encode("unicode_escape").decode("ascii")
