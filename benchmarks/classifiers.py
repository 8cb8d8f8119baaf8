"""Measure the time of an optimiser step of `raydistill augment`: ms on one core.

    OMP_NUM_THREADS=1 python benchmarks/classifiers.py

The network and the training are the defaults of `augment`: a ConvNet of three layers with 32
channels at 32 px, batches of 64. Compilation is not counted. Wall time and CPU time agree on a
quiet machine.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from raydistill.config import Augment
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.weighted_training import fit_steps

CLASSES, SIZE, IMAGES, STEPS = 9, 32, 2000, 60


def main() -> None:
    torch.set_num_threads(1)
    options = Augment()
    network = build_network(options.network, CLASSES, SIZE)
    images = torch.randn(IMAGES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    targets, probabilities = one_hot(torch.arange(IMAGES) % CLASSES, CLASSES), torch.ones(IMAGES)
    theta_P = initial_parameters(network, 0)
    print("precision  compiled  wall [ms]  CPU [ms]")
    for precision in ("bfloat16", "float32"):
        for compile in (True, False):
            training = replace(options.training, precision=precision, compile=compile)
            for steps in (3, STEPS):  # the first three steps compile
                wall, cpu = time.perf_counter(), time.process_time()
                list(fit_steps(network, theta_P, images, targets, probabilities, replace(training, steps=steps), 0))
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(f"{precision:9}  {compile!s:8}  {1e3 * wall / STEPS:9.1f}  {1e3 * cpu / STEPS:8.1f}", flush=True)


if __name__ == "__main__":
    main()
