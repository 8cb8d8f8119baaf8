"""Compare baselines with their authors' unchanged code, on the same galaxies.

    RAYDISTILL_DATA=FOLDER python benchmarks/baseline_agreement.py --dc FOLDER --ncfm FOLDER --rded FOLDER \
        [--config gz2_kaggle5] [key=value ...]

The folders are git checkouts; nothing is written to them:
    DC, DSA, DM  https://github.com/VICO-UoE/DatasetCondensation  at 53f63a672eab9ade02aabe6432706ef56f317d64
    NCFM         https://github.com/gszfwsb/NCFM                  at de92fb8a6d85562ef2df0ca4bbc74012f62b0d15
    RDED         https://github.com/LINs-lab/RDED                 at 3f6453d8b18b6a9bcc6c718bc16ecda6bb94d59f

Both sides see the same galaxies, in float64, and the same parameters of the authors' ConvNet. DSA and
DM: the first step of the images, without augmentation, whose random numbers the authors take from the
clock. NCFM: the loss and its gradient at random frequencies. RDED: the chosen crops, and the images
made of them. Prints the largest difference, relative to the largest value.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from running import run_stage
from torch import Tensor

from raydistill import distillation as rd
from raydistill.distillation.characteristic import characteristic_distance
from raydistill.distillation.difficulty import CROPS, random_crops, realism_loss, stitched
from raydistill.learning.networks import Network, embedding
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.text import text_table

SEED, PER_CLASS = 0, 40
PLAIN = rd.Augmentation(shared=True)
ABSENT = (
    "argument", "kornia", "scipy.ndimage.interpolation", "torchvision", "torchvision.transforms", "torchvision.datasets",
    "torchvision.models", "torchvision.models._api", "torchvision.utils",
)  # fmt: skip


class StandIn(ModuleType):
    """A module with every name; what the authors import and do not use here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made: Any = type(name, (), {"__init__": lambda self, *_, **__: None})
        return sys.modules.get(f"{self.__name__}.{name}", made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("dc", "ncfm", "rded"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--config", default="gz2_kaggle5")
    options, overrides = parser.parse_known_args()
    curated = CuratedSet.open(str(run_stage("curate", [options.config, *overrides])))
    loaded, classes = curated.load("train"), curated.num_classes
    rows = torch.cat([(loaded.labels_N == k).nonzero().flatten()[:PER_CLASS] for k in range(classes)])
    images, labels = curated.normalisation.apply(loaded.images_NHWC[rows]).double(), loaded.labels_N[rows]
    with authors(options.dc, "utils", "networks") as theirs:
        make = partial(conv_net, theirs["networks"], classes, images.shape[-1])
        network = Network.of(lambda: make().double())
        found = {
            "DSA, step of the images": dsa(theirs["utils"].match_loss, network, images, labels, classes),
            "DM, step of the images": dm(network, images, labels, classes),
        }
    with authors(options.ncfm / "NCFM", "NCFM") as theirs:
        found["NCFM, loss and gradient"] = ncfm(theirs["NCFM"].CFLossFunc(), images)
    with authors(options.rded, "synthesize.utils") as theirs:
        found["RDED, images"] = rded(theirs["synthesize.utils"], network, images, labels)
    cells = [("method", "largest difference"), *((name, f"{value:.1e}") for name, value in found.items())]
    print(text_table(f"Baselines beside their authors' code, {len(images)} galaxies of {options.config}", cells))


@contextmanager
def authors(folder: Path, *names: str) -> Iterator[dict[str, Any]]:
    """Import modules of a checkout; what they import and do not use here is empty."""
    stand_ins = {name: StandIn(name) for name in ABSENT}
    known = {name: sys.modules.get(name) for name in (*stand_ins, *names, "synthesize", "networks")}
    sys.modules.update(stand_ins)
    sys.path.insert(0, str(folder))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(folder))
        for name, module in known.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def conv_net(networks: Any, classes: int, side: int) -> torch.nn.Module:
    return networks.ConvNet(3, classes, 32, 3, "relu", "instancenorm", "avgpooling", (side, side))


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def first_images(images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the images with which both methods begin, one of each class."""
    return rd.random_real(images, labels, [1] * classes, rd.generator(SEED, "initial")).images_SCHW.requires_grad_()


def dsa(match_loss: Any, network: Network, images: Tensor, labels: Tensor, classes: int) -> float:
    recipe = rd.GradientMatching(iterations=1, batch_size=PER_CLASS, lr=1.0, momentum=0.0, augmentation=PLAIN)
    ((_, _, moved),) = rd.gradient_matching(recipe, network, images, labels, [1] * classes, SEED)
    start, loss = first_images(images, labels, classes), torch.zeros((), dtype=torch.float64)
    theta = rd.initial_parameters(network, rd.fold_in(SEED, 0, "network")).double()
    parameters = {name: value.requires_grad_() for name, value in network.layout.split(theta.clone()).items()}
    options = argparse.Namespace(dis_metric="ours", device="cpu")
    for k in range(classes):

        def gradient(some: Tensor, k: int = k, graph: bool = False) -> list[Tensor]:
            targets = torch.full((len(some),), k)
            loss = torch.nn.functional.cross_entropy(network.apply(parameters, some), targets)
            return list(torch.autograd.grad(loss, list(parameters.values()), create_graph=graph))

        real = gradient(images[labels == k])
        loss = loss + match_loss(gradient(start[k : k + 1], graph=True), real, options).double()
    (step,) = torch.autograd.grad(loss, start)
    return difference(moved, (start - step).detach())


def dm(network: Network, images: Tensor, labels: Tensor, classes: int) -> float:
    recipe = rd.DistributionMatching(iterations=1, batch_size=PER_CLASS, lr=1.0, momentum=0.0, augmentation=PLAIN)
    ((_, _, moved),) = rd.distribution_matching(recipe, network, images, labels, [1] * classes, SEED)
    start, psi = first_images(images, labels, classes), embedding(network)
    module: Any = network.make().double()
    theta = rd.initial_parameters(psi, rd.fold_in(SEED, 0, "network")).double()
    for name, value in psi.layout.split(theta).items():
        dict(module.named_parameters())[name].data.copy_(value)
    loss = torch.zeros((), dtype=torch.float64)
    for k in range(classes):  # main_DM.py, lines of the loss for networks without batch norm
        real, made = module.embed(images[labels == k]).detach(), module.embed(start[k : k + 1])
        loss = loss + torch.sum((torch.mean(real, dim=0) - torch.mean(made, dim=0)) ** 2)
    (step,) = torch.autograd.grad(loss, start)
    return difference(moved, (start - step).detach())


def ncfm(loss: Any, images: Tensor) -> float:
    features = torch.nn.functional.normalize(images.flatten(1), dim=1)
    real, made = features[10:], features[:10].clone().requires_grad_()
    t = torch.randn(64, features.shape[1], generator=rd.generator(SEED)).double()
    theirs, ours = loss(real, made, t), characteristic_distance(real, made, t, 0.5)
    gradients = [torch.autograd.grad(value, made)[0] for value in (ours, theirs)]
    return max(difference(*gradients), difference(ours.detach(), theirs.detach()))


def rded(theirs: Any, network: Network, images: Tensor, labels: Tensor) -> float:
    theta, side, worst = rd.initial_parameters(network, SEED).double(), images.shape[-1], 0.0
    module = Eager(network, theta)
    for factor, count in ((1, 3), (2, 2)):
        real = images[labels == 0][:PER_CLASS]
        crops = random_crops(real, side // factor, rd.generator(factor)).unflatten(0, (len(real), CROPS))
        wanted = count * factor**2
        with without_cuda():
            chosen = theirs.selector(wanted, module, crops, torch.zeros(len(real), dtype=torch.int64), side, CROPS)
        expected = theirs.mix_images(chosen, side, factor, count)
        best = realism_loss(network, [theta], crops.flatten(0, 1), 0, side).view(-1, CROPS).min(dim=1)
        order = best.values.argsort()[:wanted]
        made = stitched(crops[order, best.indices[order]], factor)
        worst = max(worst, difference(made.float(), expected))
    return worst


class Eager(torch.nn.Module):
    """The network as a module, as the authors' code calls it."""

    def __init__(self, network: Network, theta: Tensor) -> None:
        super().__init__()
        self._network, self._theta = network, theta

    def forward(self, images: Tensor) -> Tensor:
        return self._network(self._theta, images)


@contextmanager
def without_cuda() -> Iterator[None]:
    """Let the authors' `.cuda()` do nothing."""
    before = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.cuda = before  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
