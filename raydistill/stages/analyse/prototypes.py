"""The section about the prototypes: gallery, differences of classes, table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raydistill.figures.pages import picture
from raydistill.galaxies.answers import describe_votes
from raydistill.galaxies.gz2 import GZ2
from raydistill.galaxies.trees import TREES
from raydistill.stages.analyse.class_charts import difference_matrix
from raydistill.stages.analyse.gallery import GalleryRow, Neighbour, gallery, survey_links
from raydistill.stages.analyse.inputs import AnalysisInputs, Pixels
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.stages.distill.prototypes import class_means, distances_in_any_pose

SHOWN = 8  # neighbours in the gallery
MAX_ROWS = 60  # of the table on the page
MAX_TYPICAL = 300  # galaxies whose distance to their nearest neighbour is measured


def prototypes_section(inputs: AnalysisInputs) -> Section:
    """Return the section: pictures, and how far each prototype is from real galaxies."""
    nearest = inputs.neighbours["pixels"]
    typical = typical_distance(inputs)
    ratio = nearest.distances_SK[:, 0] / typical
    return Section(
        "prototypes",
        "Prototypes",
        (
            "Each prototype stands beside the mean of its class, the mean of the galaxies nearest to it, and these "
            "galaxies. Nearness is the difference of pixel values for the best of eight flips and turns.",
            "Point at a galaxy, or reach it with the Tab key, for its id, votes and links.",
        ),
        tables=(prototype_table(inputs),),
        figures=(differences(inputs),),
        statements=(
            Statement(
                "Smallest distance of a prototype to a training galaxy, over the median distance of a training galaxy to "
                "its nearest neighbour; a copy would have 0",
                float(ratio.min()),
                math.nan,
                math.nan,
                len(ratio),
            ),
        ),
        html=gallery(_rows(inputs), inputs.distilled.images_per_class, frames(inputs)),
    )


def frames(inputs: AnalysisInputs) -> dict[int, Pixels]:
    """Return the images of the distillation up to the published ones, by iteration."""
    published = inputs.distilled.selected.iteration
    earlier = {number: one for number, one in inputs.distilled.frames().items() if number < published}
    return earlier | {published: inputs.prototypes}


def typical_distance(inputs: AnalysisInputs) -> float:
    """Return the median nearest-neighbour distance of training galaxies, in any pose."""
    images = inputs.train.images_NHWC.numpy()
    rng = np.random.default_rng(inputs.plan.config.analyse.seed)
    chosen = np.sort(rng.permutation(len(images))[:MAX_TYPICAL])
    distances = np.sort(distances_in_any_pose(images[chosen], images), axis=1)
    return float(np.median(distances[:, min(1, distances.shape[1] - 1)]))  # the first is the galaxy itself


def _rows(inputs: AnalysisInputs) -> list[GalleryRow]:
    names, ipc = inputs.class_names, inputs.distilled.images_per_class
    images = inputs.train.images_NHWC.numpy()
    means = class_means(images, inputs.galaxy_labels, len(names))
    table = inputs.curated.table("train", ["object_id", "ra", "dec", "votes"])
    rows = []
    for label, name in enumerate(names):
        nearest = inputs.neighbours["pixels"]
        found = nearest.rows_SK[label * ipc][: inputs.plan.config.analyse.neighbours]
        shown = found[:SHOWN]
        details = table.take(pa.array(shown)).to_pylist()
        neighbours = [
            _neighbour(inputs, images[row], detail, distance)
            for row, detail, distance in zip(shown, details, nearest.distances_SK[label * ipc], strict=False)
        ]
        mean = images[found].mean(axis=0) / 255
        rows.append(
            GalleryRow(
                name,
                picture(_bytes(means[label]), f"mean of the galaxies of {name}"),
                picture(_bytes(mean), f"mean of the {len(found)} galaxies nearest to a prototype of {name}"),
                neighbours,
            )
        )
    return rows


def _neighbour(inputs: AnalysisInputs, pixels: Pixels, detail: dict[str, object], distance: float) -> Neighbour:
    tree = TREES[inputs.curated.summary.tree or GZ2.name]
    votes = detail["votes"]
    ra, dec = (None if detail[name] is None else float(detail[name]) for name in ("ra", "dec"))  # type: ignore[arg-type]
    return Neighbour(
        picture(pixels, f"galaxy {detail['object_id']}"),
        str(detail["object_id"]),
        inputs.class_names[int(detail["label"])],  # type: ignore[call-overload]
        f"{distance:.3f}",
        describe_votes(np.array(votes, float), tree) if votes is not None else [],
        {} if inputs.curated.summary.simulated else survey_links(ra, dec),
    )


def _bytes(image_HWC: np.ndarray) -> Pixels:
    """Return an image in [0, 1] as uint8; an unknown one is black."""
    return (np.nan_to_num(image_HWC).clip(0, 1) * 255).round().astype(np.uint8)


def differences(inputs: AnalysisInputs) -> SectionFigure:
    """Return the figure of all differences between the mean prototypes of two classes."""
    pixels = inputs.distilled.selected.pixels().numpy().mean(axis=3)
    means = pixels.reshape(len(inputs.class_names), -1, *pixels.shape[1:]).mean(axis=1)
    figure, largest = difference_matrix(means, inputs.class_names)
    return SectionFigure(
        "class_differences",
        f"Differences of brightness between the mean prototypes of all pairs of {len(means)} classes, at most {largest:.2f}",
        "Mean brightness of the prototypes of the class on the left, minus that of the class on top. Orange: the class on "
        f"the left is brighter; blue: the class on top is. The strongest colour is {largest:.2f} of the range from black to "
        "white.",
        figure,
    )


def prototype_table(inputs: AnalysisInputs) -> SectionTable:
    """Return a row per prototype: nearest galaxy, and the experts' class probability."""
    ids: Sequence[str] = inputs.train.object_ids
    nearest = inputs.neighbours["pixels"]
    own = inputs.prototype_labels
    columns: dict[str, list[object]] = {
        "prototype": list(range(len(own))),
        "class": [inputs.class_names[label] for label in own],
        "nearest_galaxy": [ids[row] for row in nearest.rows_SK[:, 0]],
        "nearest_class": [inputs.class_names[inputs.galaxy_labels[row]] for row in nearest.rows_SK[:, 0]],
        "distance": nearest.distances_SK[:, 0].tolist(),
        "target": inputs.distilled.selected.targets_SK.numpy()[np.arange(len(own)), own].astype(float).tolist(),
    }
    quantities = [
        Quantity("prototype", "number of the prototype, sorted by class"),
        Quantity("class", "class of its label"),
        Quantity("nearest_galaxy", "id of the nearest training galaxy"),
        Quantity("nearest_class", "class of that galaxy"),
        Quantity("distance", "root mean square difference of pixel values in [0, 1], for the best flip or turn"),
        Quantity("target", "probability of its class in its label; 1 for a hard label"),
    ]
    if inputs.described is not None:
        columns["experts"] = inputs.described[1].probabilities_NK[np.arange(len(own)), own].tolist()
        quantities.append(Quantity("experts", "probability of its class that the experts give, mean over experts"))
    caption = "The prototypes, their nearest training galaxies, and how the experts classify them."
    shown = len(own) <= MAX_ROWS
    return SectionTable("prototypes", caption, pa.table(columns), tuple(quantities), shown)
