"""A fit: a classifier's method, source, galaxies, seed and hyper-parameters.

| method           | images                                  | draws    | loss, augmentation    |
|------------------|-----------------------------------------|----------|-----------------------|
| real             | labelled real galaxies                  | uniform  | cross entropy, none   |
| flips            | the same                                | uniform  | cross entropy, flips  |
| oversampling     | the same                                | by class | cross entropy, flips  |
| class_balanced   | the same                                | uniform  | class-balanced, flips |
| focal            | the same                                | uniform  | focal, flips          |
| mixup            | the same                                | by class | mixup, flips          |
| cutmix           | the same                                | by class | CutMix, flips         |
| real_synthetic   | the same, and synthetic ones            | by class | cross entropy, flips  |
| real_distilled   | the same, and prototypes                | by class | cross entropy, flips  |
| real_recombined  | the same, and recombinations of them    | by class | cross entropy, flips  |
| synthetic_only   | synthetic ones                          | by class | cross entropy, flips  |
| distilled_only   | prototypes                              | by class | cross entropy, flips  |
| generator_labels | all training galaxies, votes as targets | by class | cross entropy, flips  |
| head             | features of labelled real galaxies      | all      | ridge, none           |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from raydistill.learning.augment import Augmentation
from raydistill.learning.options import WeightedTraining
from raydistill.stages.augment.artifact import DISTILLED_METHODS, SYNTHETIC_METHODS
from raydistill.stages.augment.config import RECOMBINED, Augment, Method
from raydistill.text import shown_name

ALONE: tuple[Method, ...] = ("synthetic_only", "distilled_only", "generator_labels")  # no labelled galaxies
MIXED: tuple[Method, ...] = ("real_synthetic", "real_distilled", RECOMBINED)
UNIFORM: tuple[Method, ...] = ("real", "flips", "class_balanced", "focal")
WITH_SOURCE = (*SYNTHETIC_METHODS, *DISTILLED_METHODS)


@dataclass(frozen=True)
class Fit:
    """One classifier to train.

    Attributes
    ----------
    method
        Training set and loss, see the module's table.
    source
        Name of the source of added images; "" without one.
    shots
        Labelled galaxies per class, to train and to choose with; None: all. Methods of `ALONE`
        only choose with them.
    seed
        Number of the seed.
    replicate
        Number of the source's set.
    lr
        Learning rate; for a head its regularisation.
    ratio
        Added images drawn for each real one; None for a method without both.
    min_recognised
        Threshold of the filter of synthetic images; None: no filter.
    """

    method: Method
    source: str = ""
    shots: int | None = None
    seed: int = 0
    replicate: int = 0
    lr: float = 0.0
    ratio: float | None = None
    min_recognised: float | None = None

    @property
    def title(self) -> str:
        """Return method, source and number of galaxies, for the log."""
        added = f" of {self.source}" if self.method in SYNTHETIC_METHODS else ""
        return f"{shown_name(self.method)}{added} at {'all' if self.shots is None else self.shots} a class"

    def training(self, options: Augment, resolved: WeightedTraining) -> WeightedTraining:
        """Return the hyper-parameters of its training.

        `resolved` is the training of the config, without "auto".
        """
        changes: dict[str, Any] = {
            "real": {"augmentation": Augmentation()},
            "class_balanced": {"class_balance": options.class_balance},
            "focal": {"focal": options.focal},
            "mixup": {"mixup": options.mixup},
            "cutmix": {"cutmix": options.cutmix},
        }
        return replace(resolved, lr=self.lr, **changes.get(self.method, {}))

    def filter_classifier(self, lrs: dict[tuple[int | None, int], float]) -> Fit | None:
        """Return the fit whose classifier filters synthetic images; None without a filter.

        Parameters
        ----------
        lrs
            Learning rate of the method `oversampling` by `shots` and seed.
        """
        if self.min_recognised is None:
            return None
        return Fit("oversampling", shots=self.shots, seed=self.seed, lr=lrs[self.shots, self.seed])
