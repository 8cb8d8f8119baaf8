"""Distil tensors: trajectory matching, its schedules, and baselines.

Pure torch, without Ray, MLflow or files. `examples/distill_tensors.py` is a complete program:

    from raydistill import distillation as dd

    network = dd.build_network(dd.MLP(width=16), num_classes=3, image_size=8)
    experts = dd.InMemoryTrajectories.train(network, images, targets, dd.Training(epochs=4), seeds=range(3))
    start = dd.random_real(images, labels, [1, 1, 1], dd.generator(0, "start")).images_SCHW
    distiller = dd.Distiller(dd.mtt(iterations=100, student_steps=5), network, experts, start, dd.hard_labels([1, 1, 1]), seed=0)
    while not distiller.finished:
        distiller.step()

Each published method is a function of `methods` that returns its `Recipe`. A schedule of one's own is
a subclass of `ScheduleBase`. `public` lists the names, which are imported when the first one is used:
configs import hyper-parameters of this package, and need no torch.
"""

from typing import TYPE_CHECKING, Any

from raydistill.imports import public_name

if TYPE_CHECKING:
    from raydistill.distillation.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    return public_name(__name__, name)


def __dir__() -> list[str]:
    from raydistill.distillation import public

    return [name for name in vars(public) if not name.startswith("_")]
