"""The tasks of `side_by_side.py`, each in its own process.

A task reads a JSON file and writes JSON lines to stdout.

A distillation ("theirs", "ours") writes one line when it is ready. It then runs one iteration per
line that it reads, so that two of them alternate, and ends at the end of its input. raydistill is
imported only by the tasks that need it.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

Spec = dict[str, Any]
START = "start.pt"  # initial images and their labels, the same for both


def main() -> None:
    # Only answers go to stdout; output of the authors' code goes to the log.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        TASKS[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()), answers)


class Turns:
    """Alternate with the other side: `ready`; per true `wait` an iteration and `done`."""

    def __init__(self, spec: Spec, answers: Any) -> None:
        self._folder, self._every, self._answers = Path(spec["out"]), spec["save_every"], answers
        self._began, self._iterations = 0.0, 0

    def ready(self) -> None:
        self._answer(peak_mb=_peak_mb())

    def wait(self) -> bool:
        more = bool(sys.stdin.readline())
        self._began = time.perf_counter()
        return more

    def done(self, loss: float, images: Any, student_lrs: Any) -> None:
        """Report an iteration; `student_lrs` is called when images are saved.

        It returns one rate, or one per start epoch.
        """
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._began
        self._iterations += 1
        if self._iterations % self._every == 0:
            saved = {"images": images.detach().cpu().clone(), "student_lrs": torch.as_tensor(student_lrs()).reshape(-1)}
            torch.save(saved, self._folder / f"{self._iterations:06d}.pt")
        self._answer(seconds=seconds, loss=loss, peak_mb=_peak_mb())

    def _answer(self, **values: float) -> None:
        self._answers.write(json.dumps(values) + "\n")


def _peak_mb() -> float:
    """Return the peak memory of this process so far, or of its GPU if it uses one.

    `ru_maxrss` is in kB on Linux and in bytes on macOS.
    """
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# ---- the authors' code ----


class StandIn(ModuleType):
    """A module without content: its attributes and calls return the module itself."""

    def __getattr__(self, name: str) -> StandIn:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> StandIn:
        return self


STAND_INS = ("kornia", "torchvision", "torchvision.utils", "cv2", "seaborn", "scipy.ndimage.interpolation")


class Recorder(StandIn):
    """A replacement for wandb, to which both programs log.

    They log before their first iteration, and the loss after each.
    """

    def __init__(self, on_begin: Callable[[], None], on_end: Callable[[float, dict[str, Any]], None]) -> None:
        super().__init__("wandb")
        self.config, self.run = SimpleNamespace(_items={}), SimpleNamespace(name="side_by_side")
        self._on_begin, self._on_end, self._started = on_begin, on_end, False

    def init(self, config: Any, **_: Any) -> None:
        self.config._items = vars(config)

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        """Call `on_end` with their loop's variables, such as the images; change nothing."""
        if not self._started:
            self._started = True
            self._on_begin()
        for name, value in values.items():
            if name.startswith("Grand_Loss"):
                self._on_end(float(value), sys._getframe(1).f_locals)


def theirs(spec: Spec, answers: Any) -> None:
    turns = Turns(spec, answers)

    def begin() -> None:
        turns.ready()
        wait_for_turn()

    def end(loss: float, local: dict[str, Any]) -> None:
        turns.done(loss, local["image_syn"], lambda: _their_rates(local))
        wait_for_turn()

    def wait_for_turn() -> None:
        if not turns.wait():
            raise SystemExit

    _run_theirs(spec, begin, end)


def _their_rates(local: dict[str, Any]) -> list[float]:
    if "log_syn_lr_list" in local:  # STM: one for every start epoch of the window
        return [log_lr.exp().item() for log_lr in local["log_syn_lr_list"]]
    return [local["syn_lr"].item()]


def _run_theirs(spec: Spec, begin: Callable[[], None], end: Callable[[float, dict[str, Any]], None]) -> None:
    """Run their unchanged `distill.py` on our images and experts."""
    import torch

    dtype = getattr(torch, spec["precision"])
    start = torch.load(Path(spec["data"]) / START)
    images, labels = start["images"].to(dtype), start["labels"]
    if dtype != torch.float32:
        torch.set_default_dtype(dtype)
        torch.float = dtype  # they write it where they make the images
    absent = [name for name in STAND_INS if name.startswith("scipy") or not _imports(name.split(".")[0])]
    sys.modules |= {name: StandIn(name) for name in absent} | {"wandb": Recorder(begin, end)}
    sys.dont_write_bytecode = True  # leave their folder unchanged
    sys.path.insert(0, spec["code"])
    import utils  # theirs

    def get_dataset(*_: Any, **__: Any) -> tuple[Any, ...]:
        """Return the initial images as the data set: their random real images are ours."""
        classes = int(labels.max()) + 1
        data = torch.utils.data.TensorDataset(images, labels)
        names, same = [str(k) for k in range(classes)], {k: k for k in range(classes)}
        return images.shape[1], images.shape[2:], classes, names, None, None, data, data, None, None, same, None

    utils.get_dataset = get_dataset
    os.chdir(spec["out"])
    sys.argv = ["distill.py", *spec["arguments"], f"--buffer_path={spec['data']}/buffers-{spec['precision']}"]
    runpy.run_path(f"{spec['code']}/distill.py", run_name="__main__")


def _imports(name: str) -> bool:
    """Return whether a module can be imported.

    A CUDA build of torchvision beside a CPU build of torch is there, but cannot.
    """
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):
        return False
    return True


# ---- ours ----


def ours(spec: Spec, answers: Any) -> None:
    import torch
    from pydantic import TypeAdapter

    from raydistill.distillation.distiller import Distiller
    from raydistill.distillation.initial import hard_labels
    from raydistill.distillation.recipe import Recipe
    from raydistill.runtime.resources import device_of
    from raydistill.stages.experts.artifact import TrajectoryStore

    recipe = TypeAdapter(Recipe).validate_python(spec["recipe"])
    store = TrajectoryStore.open(spec["trajectories"], verify=False)
    images = torch.load(Path(spec["data"]) / START)["images"]
    classes = len(images) // recipe.images_per_class
    device = device_of(spec["gpus"])
    images, labels = images.to(device), hard_labels([recipe.images_per_class] * classes).to(device)
    distiller = Distiller(recipe, _network(classes, images), store, images, labels, seed=0)
    turns = Turns(spec, answers)
    turns.ready()
    while turns.wait():
        loss = statistics.fmean(record.loss for record in distiller.step())
        turns.done(loss, distiller.images, lambda: distiller.student_lrs)


def _network(classes: int, images: Any) -> Any:
    from raydistill.learning.architectures import ConvNet
    from raydistill.learning.networks import build_network

    return build_network(ConvNet(depth=3, width=128), classes, images.shape[-1])


# ---- inputs and evaluation of both ----


def export(spec: Spec, answers: Any) -> None:
    """Write the initial images, and the experts in the authors' format.

    The format is a list of experts, each of epochs, each of parameter tensors.
    """
    import torch

    from raydistill.distillation.coreset import random_real
    from raydistill.seeding import generator
    from raydistill.stages.curate.artifact import CuratedSet
    from raydistill.stages.experts.artifact import TrajectoryStore

    curated = CuratedSet.open(spec["curated"], verify=False)
    store = TrajectoryStore.open(spec["trajectories"], verify=False)
    train = curated.load("train")
    pixels = curated.normalisation.apply(train.images_NHWC)
    counts = [spec["images_per_class"]] * curated.num_classes
    images = random_real(pixels, train.labels_N, counts, generator(0, "side by side")).images_SCHW
    labels = torch.arange(curated.num_classes).repeat_interleave(spec["images_per_class"])
    folder = Path(spec["data"])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"images": images, "labels": labels}, folder / START)
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        experts = [
            [list(store.layout.split(store(expert, epoch).to(dtype)).values()) for epoch in range(store.num_epochs + 1)]
            for expert in range(store.num_experts)
        ]
        buffers = folder / f"buffers-{name}" / "data" / "ConvNet"
        buffers.mkdir(parents=True, exist_ok=True)
        torch.save(experts, buffers / "replay_buffer_0.pt")
    test = curated.load("test")
    facts = {"train": len(train.labels_N), "test": len(test.labels_N), "classes": curated.num_classes}
    answers.write(json.dumps(facts) + "\n")


def evaluate(spec: Spec, answers: Any) -> None:
    """Evaluate every file of images: balanced test accuracy of fresh networks.

    They are trained at the learned rates.
    """
    import torch

    from raydistill.distillation.initial import hard_labels
    from raydistill.errors import DivergenceError
    from raydistill.learning import metrics
    from raydistill.learning.augment import DSA, Augmentation
    from raydistill.learning.networks import initial_parameters
    from raydistill.learning.options import Training
    from raydistill.learning.training import lr_schedule, predict, train
    from raydistill.seeding import fold_in
    from raydistill.stages.curate.artifact import CuratedSet

    curated = CuratedSet.open(spec["curated"], verify=False)
    test = curated.load("test")
    pixels = curated.normalisation.apply(test.images_NHWC)
    results = {}
    for file in spec["files"]:
        saved = torch.load(file)
        images, rates = saved["images"], saved.get("student_lrs", torch.tensor([spec["student_lr"]]))
        training = Training(
            epochs=spec["epochs"], batch_size=len(images), momentum=0.9, weight_decay=5e-4, lr_decay_at=0.5, class_weights=False,
            augmentation=Augmentation(DSA, mode="single"),
        )  # fmt: skip
        network, targets = (
            _network(curated.num_classes, images),
            hard_labels([spec["images_per_class"]] * curated.num_classes),
        )
        scores = []
        for number in range(spec["networks"]):
            theta_P = initial_parameters(network, fold_in(0, "judge", number))
            seed = fold_in(0, "judge", number, "training")
            try:
                theta_P = train(network, theta_P, images, targets, training, seed, lr_schedule(rates, training))
            except DivergenceError:
                scores.append(0.0)  # as in raydistill's own validation
                continue
            predicted = predict(network, theta_P, pixels)
            scores.append(metrics.balanced_accuracy(metrics.confusion(predicted, test.labels_N, curated.num_classes)))
        results[file] = metrics.summarise(scores) | {"student_lrs": [round(rate, 6) for rate in rates.tolist()]}
    answers.write(json.dumps(results) + "\n")


# ---- agreement of one iteration ----


def their_iteration(spec: Spec, answers: Any) -> None:
    """Save start, target, loss and gradients of their first unaugmented iteration."""
    import torch

    def end(loss: float, local: dict[str, Any]) -> None:
        saved = {name: local[name].detach() for name in ("starting_params", "target_params")}
        saved |= {"loss": local["grand_loss"].detach(), "images": local["image_syn"].grad}
        if "log_syn_lr_list" in local:
            cap, path = local["start_epoch_cap"], local["expert_trajectory"]
            saved["log_lr"] = local["log_syn_lr_list"][local["start_epoch"]].grad
            saved["next_epoch_loss"] = torch.tensor(local["test_loss"][-1])
            saved["next_epoch"] = [
                torch.cat([p.reshape(-1) for p in path[epoch]]) for epoch in (cap, cap + spec["expert_epochs"])
            ]
        else:
            saved["log_lr"] = local["syn_lr"].grad * spec["student_lr"]  # before its step the rate was student_lr
        torch.save(saved, Path(spec["out"]) / "iteration.pt")
        raise SystemExit

    _run_theirs(spec, lambda: None, end)


def compare(spec: Spec, answers: Any) -> None:
    """Compare our loss, gradients and logits with theirs at the same parameters."""
    import torch

    from raydistill.distillation.initial import hard_labels
    from raydistill.distillation.matching import Batch, Matcher
    from raydistill.learning.augment import Augmentation
    from raydistill.learning.losses import student_loss

    theirs = torch.load(Path(spec["out"]) / "iteration.pt")
    dtype = getattr(torch, spec["precision"])
    images = torch.load(Path(spec["data"]) / START)["images"].to(dtype)
    classes = len(images) // spec["images_per_class"]
    labels = hard_labels([spec["images_per_class"]] * classes).to(dtype)
    network = _network(classes, images)
    matcher = Matcher(student_loss(network, Augmentation()))
    batches = [Batch(None, {})] * spec["student_steps"]
    lr = torch.tensor(spec["student_lr"], dtype=dtype)
    start = theirs["starting_params"]
    ours = matcher.match(start, theirs["target_params"], images, labels, lr, batches)
    differences = {
        "loss": _difference(ours.loss, theirs["loss"]),
        "gradient of the images": _difference(ours.d_images_SCHW, theirs["images"]),
        "1 - its cosine": 1
        - float(torch.cosine_similarity(ours.d_images_SCHW.flatten(), theirs["images"].flatten(), dim=0)),
        "gradient of log lr": _difference(ours.d_lr * lr, theirs["log_lr"]),
        "logits": _difference(
            network(start, images), _their_logits(spec["code"], network.layout, start, images, classes)
        ),
    }
    if "next_epoch" in theirs:
        start, target = theirs["next_epoch"]
        loss = matcher.loss(start, target, images, labels, lr, batches)
        differences["next-epoch loss"] = _difference(loss, theirs["next_epoch_loss"])
    answers.write(json.dumps(differences) + "\n")


def _difference(ours: Any, theirs: Any) -> float:
    """Return |ours - theirs| / |theirs|."""
    return float((ours - theirs).norm() / theirs.norm())


def _their_logits(code: str, layout: Any, theta_P: Any, images: Any, classes: int) -> Any:
    """Return their ConvNet's logits with our parameters; ValueError if shapes differ."""
    import torch

    sys.dont_write_bytecode = True
    sys.path.insert(0, code)
    from networks import ConvNet  # theirs

    module = ConvNet(3, classes, 128, 3, "relu", "instancenorm", "avgpooling", tuple(images.shape[2:])).to(images.dtype)
    names, shapes = zip(*((name, tuple(p.shape)) for name, p in module.named_parameters()), strict=True)
    if shapes != layout.shapes:
        raise ValueError(f"their parameters have the shapes {shapes}, ours {layout.shapes}")
    parameters = dict(zip(names, layout.split(theta_P).values(), strict=True))
    return torch.func.functional_call(module, parameters, (images,))


def machine(spec: Spec, answers: Any) -> None:
    import torch

    from raydistill.distillation.cost_model import Hardware

    facts = {
        "cpus": os.cpu_count(), "cpu": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "bfloat16": Hardware.of_workers(gpus=torch.cuda.device_count()).bfloat16,
    }  # fmt: skip
    answers.write(json.dumps(facts) + "\n")


TASKS: dict[str, Callable[[Spec, Any], None]] = {
    task.__name__: task for task in (theirs, ours, export, evaluate, their_iteration, compare, machine)
}

if __name__ == "__main__":
    main()
