"""Define the parts of a config about the survey and its curation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, NonNegativeInt, PositiveFloat, PositiveInt, StrictInt

from raydistill.config.kinds import BY_KIND, infer_kind
from raydistill.galaxies.catalog_schemas import Fractions
from raydistill.galaxies.labels import LabelledClass, parse_classes
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.galaxies.selection import SPLIT_TOLERANCE
from raydistill.galaxies.tables.ids import Duplicates
from raydistill.simulation.defects import REASONS, Reason

Images = FolderImages | ParquetImages | FitsImages | MosaicImages
LARGEST_WHITENED = 64  # px: 12,288 values, a matrix of 600 MB and its inverse; 32 px: 38 MB


@dataclass(frozen=True, kw_only=True)
class CatalogSurvey:
    """Describe a survey as a table of votes or labels, and images.

    Parameters
    ----------
    catalog
        Table of any format at any URI, or a folder of tables of one format.
    images
        Location of the images.
    dialect
        Name of the table's column schema, or "auto": found by its columns. Schemas of votes:
        willett, hart16, kaggle, galaxy-datasets (GZ2), gz-ukidss, gz-decals-12, gz-decals-5,
        gz-decals-8, gz-desi, gz-hubble, gz-candels, gz-cosmic-dawn, gz-jwst, gz-euclid, gz-rings.
        Schema of labels: plain.
    fractions
        Use raw, weighted or debiased vote fractions.
    columns
        Columns with unusual names, e.g. {id: GalaxyID, label: class}. null leaves a column out, e.g.
        {ra: null}. {split: NAME} takes official splits from a column of names such as train.
    hdu
        Table of a file with several: number or name of a FITS extension or of a VOTable's table, or
        name of a file in a zip. None: the only table, or FITS's first one.
    frame_r90
        Side of a whole image in units of the galaxy's petroR90_r, if all images are cut so.
        Galaxy Zoo 2: 8.48 for 424 px. Mosaics with a `size` in R90 set it. The FITS header of the
        prototypes then has a scale.
    licence, citation
        Stored in the curated set's manifest. The licence also goes into the prototypes' FITS
        header.
    duplicates
        An id in several rows of the table, or with several pictures (rows of Parquet, rows of the
        mapping, files with several suffixes, tiles of the same piece of the sky). "reject": an
        error. "first": the first one is taken, with a warning.
    """

    kind: Literal["catalog"] = "catalog"
    catalog: str
    images: Annotated[Images, BY_KIND, infer_kind(Images)]
    dialect: str = "auto"
    fractions: Fractions = "weighted"
    columns: dict[str, str | None] = field(default_factory=dict)
    hdu: int | str | None = None
    frame_r90: PositiveFloat | None = None
    licence: str = ""
    citation: str = ""
    duplicates: Duplicates = "reject"

    def __post_init__(self) -> None:
        if not isinstance(self.images, MosaicImages) or self.images.frame_r90 is None:
            return
        if self.frame_r90 not in (None, self.images.frame_r90):
            raise ValueError(f"frame_r90 is {self.frame_r90}, and images.size is {self.images.size}")
        object.__setattr__(self, "frame_r90", self.images.frame_r90)


@dataclass(frozen=True)
class Exclusion:
    """Leave galaxies out of a curated set.

    Networks that are trained on the set then have not seen them; `predict` and `hunt` still read
    them.

    Parameters
    ----------
    where
        Condition on columns of a table, such as "redshift > 0.1" or "truth_dust_lane > 0". Galaxies
        that fulfil it are left out. docs/how-to/own-votes.md has the grammar.
    table
        Table of any format with object ids and these columns. None: that of the survey; of a
        simulated survey its truth.
    id
        Its column of object ids. None: objid, or the first column.
    """

    where: str
    table: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Part:
    """Name one of several disjoint parts.

    Parameters
    ----------
    index, parts
        Number of the part, from 0, and how many there are.
    """

    index: NonNegativeInt
    parts: PositiveInt

    def __post_init__(self) -> None:
        if self.index >= self.parts:
            raise ValueError(f"index must be less than parts, got {self.index} of {self.parts}")


@dataclass(frozen=True)
class TrainingPart(Part):
    """Keep one of several disjoint parts of the training galaxies.

    Experts of different parts have no galaxy in common. Validation and test galaxies are those of the
    whole set. Every part has a share of each class.

    Parameters
    ----------
    permute
        Permute the labels of the part's galaxies, as a control: experts then learn nothing about
        classes.
    """

    permute: bool = False


MAX_OFFSET = 100  # px, of `centre`


@dataclass(frozen=True)
class Curate:
    """Select classes, galaxies, pixels and splits of a survey.

    Parameters
    ----------
    classes
        "gz2-9", "gz2-5", a set for the votes of another survey such as "gz-decals-9" or
        "gz-euclid-10", a YAML file with a class tree, or a list of label names. Labels that are
        numbers, or are spelt otherwise, need a mapping: {elliptical: 1, s0: 2, spiral: [3, 4]}.
        A data set also takes "all", its default. "unlabelled": all galaxies, without classes; such a
        set trains generators only, and its table needs ids alone.
    image_size
        Side of a curated image in pixels.
    crop_fraction
        Side of the central square, as a fraction of the image's shorter side. The default of a data
        set is 1.
    centre
        Where the galaxies are in the survey's pictures: to the right and downwards of the middle, in
        pixels of the source. Cut-outs are often centred on another pixel than their middle;
        `python benchmarks/picture_centre.py FOLDER` measures it.
    align
        Rotate every image so that the galaxy's major axis is horizontal. The default augmentation
        is then `mirror`, because the quarter turns of `dihedral` would undo the alignment.
    thresholds
        "n10" or "n20": every question on a class's path needs enough votes (Willett et al. 2013).
        For Galaxy Zoo 2's tree only.
    min_votes
        Minimum number of answers of a galaxy, over all questions.
    min_confidence
        Minimum confidence of a galaxy in its class.
    per_class
        Number of galaxies per class, the most confident first. None: all.
    balance
        Reduce every class to the size of the smallest one.
    split
        Fractions of train, validation and test, by hash of the object id. A data set, and a survey
        with `columns: {split: …}`, keep their official splits. Their training part is divided in
        proportion to the remaining fractions, after `per_class` and `balance`.
    split_seed
        Another number divides the galaxies among the splits in another way.
    part
        Keep one of several disjoint parts of the training galaxies. None: all of them.
    min_picture_size
        Minimum side of a source image in pixels. The default of a data set is 8.
    whitening
        "zca": whiten images, as the trajectory-matching papers do for CIFAR. None: use the mean and
        standard deviation of each colour channel. All later stages see whitened images;
        augmentation acts on them.
    whitening_eps
        Added to the pixels' variances, in units where white is 1. The default is that of the
        papers.
    duplicates
        What happens to a picture whose pixels also occur in an earlier split (train, validation,
        test). "keep": it is counted, with a warning. "drop": it is rejected, so that each picture
        is in one split. "reject": the stage ends with an error.
    filter
        Reject damaged pictures, which a network recognises. None: reject none for their contents.
    exclude
        Leave out galaxies that fulfil a condition. None: none.
    """

    classes: Annotated[str | tuple[str | StrictInt | LabelledClass, ...], BeforeValidator(parse_classes)] = "gz2-9"
    image_size: int = 32
    crop_fraction: float = 0.5
    centre: tuple[float, float] = (0.0, 0.0)
    align: bool = False
    thresholds: Literal["n10", "n20"] | None = None
    min_votes: float = 0
    min_confidence: float = 0.0
    per_class: PositiveInt | None = None
    balance: bool = False
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    split_seed: NonNegativeInt = 0
    part: TrainingPart | None = None
    min_picture_size: int = 32
    whitening: Literal["zca"] | None = None
    whitening_eps: PositiveFloat = 0.1
    duplicates: Literal["keep", "drop", "reject"] = "drop"
    filter: PictureFilter | None = None
    exclude: Exclusion | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", parse_classes(self.classes))  # Python may give a dict
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction}")
        if not all(math.isfinite(value) and abs(value) <= MAX_OFFSET for value in self.centre):
            raise ValueError(f"centre must be two numbers within {MAX_OFFSET} px of 0, got {list(self.centre)}")
        if self.image_size < 8:
            raise ValueError(f"image_size must be at least 8, got {self.image_size}")
        if min(self.split) <= 0 or not math.isclose(sum(self.split), 1, abs_tol=SPLIT_TOLERANCE):
            raise ValueError(f"split must be three positive fractions that sum to 1, got {list(self.split)}")
        if self.whitening and self.image_size > LARGEST_WHITENED:
            raise ValueError(f"whitening needs an image_size of at most {LARGEST_WHITENED}, got {self.image_size}")


# Define the filter of damaged pictures, a part of `curate`.


@dataclass(frozen=True)
class PictureFilter:
    """Reject pictures in which a network recognises a defect.

    The network is trained on training pictures of the survey with injected defects. Every picture
    is scored by a network that was not trained on it.

    Parameters
    ----------
    reasons
        Defects to reject. "low-surface-brightness": the galaxy hardly exceeds the noise of the sky.
        "artifact": a satellite trail, cosmic rays, a saturated star, or missing data.
        "truncated-galaxy": an edge or missing data cut the galaxy. "off-centre": the galaxy is away
        from the centre. "blended": another galaxy overlaps the galaxy. The default leaves it out:
        two interacting galaxies look the same, and they are real.
    false_rejection_rate
        Largest share of undamaged pictures that a reason rejects.
    pictures
        Number of training pictures, at most, that train and calibrate the filter.
    labels
        Table of galaxies that somebody has looked at, with an id and a label, which is "clean" or a
        reason: the `labels.csv` of a contact sheet, or any table that `survey.catalog` takes. Those
        of the training split train the networks too, a fifth of all pictures that they see. None:
        injected defects alone.
    steps
        Steps of the optimiser of each of the two networks, on 32 pictures each. Defects are drawn
        anew for every step.
    """

    reasons: tuple[Reason, ...] = tuple(reason for reason in REASONS if reason != "blended")
    false_rejection_rate: float = 0.01
    pictures: PositiveInt = 2000
    labels: str | None = None
    steps: PositiveInt = 1500

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("reasons must name at least one; leave out curate.filter to reject none")
        if len(set(self.reasons)) < len(self.reasons):
            raise ValueError(f"reasons must each be named once, got {', '.join(self.reasons)}")
        if not 0 < self.false_rejection_rate < 0.5:
            raise ValueError(f"false_rejection_rate must lie in (0, 0.5), got {self.false_rejection_rate:g}")
