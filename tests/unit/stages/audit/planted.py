"""Plant known defects into real pictures, and audit the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from raydistill.morphology.pictures import QUANTITIES, morphology
from raydistill.stages.audit.config import NUM_PERMUTATIONS
from raydistill.stages.audit.inputs import draw_samples, with_others
from raydistill.stages.audit.metrics.classes import wrong_labels
from raydistill.stages.audit.metrics.comparison import FeatureArray, Features, compare, matched_classes
from raydistill.stages.audit.metrics.features import scattering
from raydistill.statistics.copies import closest_copies, isolation, twins
from raydistill.statistics.memorisation import RealNeighbours, memorisation, picture_distances, two_generators
from raydistill.statistics.permutation import PooledStatistic, two_groups
from raydistill.statistics.testing import Finding, combine

COPIED = 10  # one in this many pictures is a copy of a training picture
COLLAPSED = 10  # this many pictures repeat each picture that is left


@dataclass(frozen=True)
class Pictures:
    """Pictures uint8 [N, H, H, 3] with labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Pictures:
        return Pictures(self.images[rows], self.labels[rows])


def of_samples(statistic: PooledStatistic, num_real: int, num_synthetic: int) -> np.ndarray:
    """Return the values [M] for real pictures, followed by synthetic ones."""
    return statistic.evaluate(two_groups(num_real, num_synthetic)[None])[0]


Defect = Callable[[Pictures, Pictures, np.random.Generator], Pictures]  # (synthetic, training, rng) -> synthetic


def honest(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
    return synthetic


def copies(synthetic: Pictures, training: Pictures, rng: np.random.Generator, noise: float = 2) -> Pictures:
    """Replace a tenth of the pictures by flipped, turned and noisy training pictures.

    The noise is small.
    """
    images, labels = synthetic.images.copy(), synthetic.labels.copy()
    count = len(images) // COPIED
    noisy = training.images[:count, :, ::-1].astype(float) + rng.normal(0, noise, size=training.images[:count].shape)
    images[:count], labels[:count] = as_pixels(np.rot90(noisy, axes=(1, 2))), training.labels[:count]
    return Pictures(images, labels)


def few_copies(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
    """Replace 2 % of the pictures by flipped, turned and noisy training pictures."""
    count = max(1, len(synthetic.images) // 50)
    copied = copies(synthetic.take(np.arange(count * COPIED)), training, rng, noise=1)
    images, labels = synthetic.images.copy(), synthetic.labels.copy()
    images[:count], labels[:count] = copied.images[:count], copied.labels[:count]
    return Pictures(images, labels)


def repeated(synthetic: Pictures, training: Pictures, rng: np.random.Generator, share: int = 40) -> Pictures:
    """Replace one in `share` pictures by a turned and noisy twin of another one.

    So 5 % of the pictures are twins.
    """
    images, labels = synthetic.images.copy(), synthetic.labels.copy()
    count = len(images) // share
    noisy = images[count : 2 * count].astype(float) + rng.normal(0, 2, size=images[:count].shape)
    images[:count], labels[:count] = as_pixels(np.rot90(noisy, axes=(1, 2))), labels[count : 2 * count]
    return Pictures(images, labels)


def mislabelled(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
    """Label a tenth of the pictures wrongly; each class keeps its number."""
    rows = np.sort(rng.permutation(len(synthetic.labels))[: len(synthetic.labels) // 10])
    rows = rows[np.argsort(synthetic.labels[rows], kind="stable")]
    labels, largest = synthetic.labels.copy(), int(np.bincount(synthetic.labels[rows]).max())
    labels[rows] = np.roll(synthetic.labels[rows], largest)
    return Pictures(synthetic.images, labels)


def blurred_class(label: int) -> Defect:
    """Blur the pictures of one class alone."""

    def plant(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
        images = synthetic.images.copy()
        images[synthetic.labels == label] = blurred(synthetic, training, rng).images[synthetic.labels == label]
        return Pictures(images, synthetic.labels)

    return plant


def missing_class(missing: int) -> Defect:
    """Replace the pictures of a class by pictures of all others."""

    def plant(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
        rows = np.arange(len(synthetic.images))
        others = np.flatnonzero(synthetic.labels != missing)
        absent = synthetic.labels == missing
        rows[absent] = rng.choice(others, absent.sum(), replace=False)
        return synthetic.take(rows)

    return plant


def brighter(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
    return Pictures(as_pixels(synthetic.images * 1.1), synthetic.labels)


def redder(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
    return Pictures(as_pixels(synthetic.images * np.array([1.1, 1, 0.9])), synthetic.labels)


def blurred(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
    return Pictures(as_pixels(gaussian_filter(synthetic.images.astype(float), (0, 0.7, 0.7, 0))), synthetic.labels)


def collapsed(synthetic: Pictures, training: Pictures, rng: np.random.Generator) -> Pictures:
    return synthetic.take(np.repeat(np.arange(len(synthetic.images))[::COLLAPSED], COLLAPSED)[: len(synthetic.images)])


def as_pixels(values: np.ndarray) -> np.ndarray:
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def audited(
    pictures: Pictures, defects: dict[str, Defect], size: int, seed: int, permutations: int = NUM_PERMUTATIONS
) -> dict[str, set[tuple[str, str]]]:
    """Return the significant (metric, feature) of each defect.

    Random thirds of the pictures play training, held-out and synthetic pictures. From them the
    samples are drawn as `raydistill audit` draws them: of at most this size, with equal class
    proportions.
    """
    training, test, clean, *wide = draw(pictures, size, seed)
    rng = np.random.default_rng(seed)
    names = tuple(f"class {label}" for label in range(pictures.labels.max() + 1))
    others, reference, wide_training, wide_test = (
        picture_features(part.images, part.labels, names) for part in (training, test, *wide)
    )
    real = np.concatenate([training.images, test.images]) / 255
    fresh = isolation(picture_distances(test.images / 255, training.images / 255))
    result = {}
    for name, plant in defects.items():
        synthetic = plant(clean, training, rng)
        features = picture_features(synthetic.images, synthetic.labels, names)
        distances_SR = picture_distances(synthetic.images / 255, real)
        neighbours = {"pixels": RealNeighbours.of(distances_SR, len(training.images))}
        pooled = np.concatenate([test.images, synthetic.images]) / 255
        findings = combine(
            compare(reference, features, others, seed, permutations), memorisation(neighbours, seed, permutations),
            [closest_copies(isolation(distances_SR[:, : len(training.images)]), fresh, seed)],
            twins(picture_distances(pooled, pooled), seed, permutations, matched_classes(test.labels, synthetic.labels)),
            wrong_labels(wide_test, features, wide_training, seed),
        )  # fmt: skip
        result[name] = significant(findings)
    return result


def audited_pair(
    pictures: Pictures, plant: Defect, seed: int, permutations: int = NUM_PERMUTATIONS
) -> set[tuple[str, str]]:
    """Return the significant (metric, feature) of two generators.

    Random quarters of the pictures play the training half and the synthetic pictures of each.
    """
    rng = np.random.default_rng(seed)
    quarters = np.array_split(rng.permutation(len(pictures.images)), 4)
    first, second, *clean = (pictures.take(part) for part in quarters)
    synthetic = [plant(part, half, rng) for part, half in zip(clean, (first, second), strict=True)]
    images = np.concatenate([part.images for part in synthetic]) / 255
    real = np.concatenate([first.images, second.images]) / 255
    halves = RealNeighbours.of(picture_distances(images, real), len(first.images))
    labels = np.concatenate([first.labels, second.labels])
    return significant(two_generators(halves, len(synthetic[0].images), seed, permutations, labels))


def draw(pictures: Pictures, size: int, seed: int) -> list[Pictures]:
    """Return samples of training, held-out and synthetic pictures, without defects.

    Then the training and held-out pictures for the test of labels, as many as there are.
    """
    order = np.random.default_rng(seed).permutation(len(pictures.images))
    training, test, clean = (pictures.take(part) for part in np.array_split(order, 3))
    rows = draw_samples(clean.labels, test.labels, training.labels, size, seed)
    wide = (
        part.take(with_others(chosen, len(part.labels), 1000, seed))
        for part, chosen in ((training, rows.training), (test, rows.held_out))
    )
    return [training.take(rows.training), test.take(rows.held_out), clean.take(rows.synthetic), *wide]


def significant(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.metric, finding.feature) for finding in findings if finding.significant}


def picture_features(images_NHWC: np.ndarray, labels_N: np.ndarray, names: tuple[str, ...]) -> Features:
    """Return the scattering coefficients and the morphology of pictures."""
    pictures = images_NHWC.astype(np.float32) / 255
    shapes = FeatureArray(morphology(pictures), QUANTITIES)
    return Features({"scattering": FeatureArray(scattering(pictures)), "morphology": shapes}, labels_N, names)
