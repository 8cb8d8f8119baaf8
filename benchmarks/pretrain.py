"""Compare the speed of `raydistill pretrain` with a plain loop.

The loop runs over pictures in memory.

    RAYDISTILL_DATA=FOLDER python benchmarks/pretrain.py CONFIG [key=value ...] [--steps 40 160]
        [--memory PATH ...]

The plain loop has the same network, views, loss and batch, all cores, and neither Ray nor
checkpoints. The stage runs twice, with fewer and with more steps; the difference of the two is the
time of its steps without start and probe. Both have the machine for themselves, one after the other.
`--memory` prints the peak memory of all processes instead, with and without these further curated sets.
"""

from __future__ import annotations

import argparse
import os
import threading
import time

import psutil
import torch
from running import run_stage
from scaling import children, pss

from raydistill import load_config
from raydistill.learning.contrast import ContrastiveModel, draw_views, nt_xent, show
from raydistill.learning.options import ContrastiveTraining
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.pretrain.artifact import EncoderArtifact
from raydistill.stages.pretrain.worker import channel_normalisation
from raydistill.text import text_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--steps", type=int, nargs=2, default=[40, 160])
    parser.add_argument("--memory", metavar="PATH", nargs="+")
    options, overrides = parser.parse_known_args()
    if options.memory:
        print(text_table("Peak memory", peaks(options.config, overrides, options.memory, options.steps[0])))
        return
    fewer, more = sorted(options.steps)
    training = load_config(options.config, *overrides).pretrain.training
    curated = CuratedSet.open(str(run_stage("run", [options.config, *overrides, "--to", "curate"])))
    plain = plain_loop(options.config, overrides, curated, training, more - fewer)
    seconds = {}
    for steps in (fewer, more):
        words = [f"pretrain.training.steps={steps}", f"pretrain.probe_every={steps}"]
        words += [f"pretrain.seed={time.time_ns() % 2**31}"]
        started = time.perf_counter()
        run_stage("pretrain", [options.config, *overrides, *words])
        seconds[steps] = time.perf_counter() - started
    stage = seconds[more] - seconds[fewer]
    pictures = training.batch_size * (more - fewer)
    rows = [
        ("", "pictures/s", "relative"),
        ("plain loop", f"{pictures / plain:.0f}", "1"),
        ("raydistill pretrain", f"{pictures / stage:.0f}", f"{plain / stage:.2f}"),
    ]
    print(text_table(f"{more - fewer} steps of {training.batch_size} pictures, {os.cpu_count()} cores", rows))


def peaks(config: str, overrides: list[str], further: list[str], steps: int) -> list[tuple[str, ...]]:
    """Return peak memory with the survey alone and with further sets."""
    rows: list[tuple[str, ...]] = [("pictures", "largest process [MB]", "all processes [MB]")]
    for sets in ([], further):
        words = [config, *overrides, f"pretrain.training.steps={steps}", f"pretrain.probe_every={steps}"]
        words += [f"pretrain.seed={time.time_ns() % 2**31}", f"pretrain.extra_sets=[{', '.join(sets)}]"]
        found, stop = [0.0, 0.0], threading.Event()
        watcher = threading.Thread(target=watch, args=(found, stop))
        watcher.start()
        try:
            encoder = EncoderArtifact.open(str(run_stage("pretrain", words)))
        finally:
            stop.set()
            watcher.join()
        rows.append((str(encoder.summary.num_images), *(f"{value:.0f}" for value in found)))
    return rows


def watch(found: list[float], stop: threading.Event) -> None:
    """Update peaks of proportional set size: the largest process, and all."""
    while not stop.wait(0.5):
        own = [pss(process) / 1e6 for process in children(psutil.Process())]
        found[:] = max(found[0], *own, 0.0), max(found[1], sum(own))


def plain_loop(
    config: str, overrides: list[str], curated: CuratedSet, training: ContrastiveTraining, steps: int
) -> float:
    """Return the seconds of so many steps."""
    torch.manual_seed(0)
    images_NHWC, g = curated.load("train").images_NHWC, torch.Generator().manual_seed(0)
    network, size = load_config(config, *overrides).pretrain.network, curated.summary.image_size
    model = ContrastiveModel(network, size, training.projection, channel_normalisation(curated), seed=0).train()
    optimiser = torch.optim.AdamW([parameter for _, parameter in model.trained()], lr=training.lr)
    for step in range(steps + 2):  # two to warm up
        if step == 2:
            started = time.perf_counter()
        rows = torch.randperm(len(images_NHWC), generator=g)[: training.batch_size]
        images = images_NHWC[rows].permute(0, 3, 1, 2).float() / 255
        views = torch.cat([show(images, draw_views(training.views, len(images), g)) for _ in range(2)])
        optimiser.zero_grad()
        first, second = model(views).chunk(2)
        nt_xent(first, second, training.temperature).backward()
        optimiser.step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
