"""Peak memory and time of one matching iteration: the exact engine against the unrolled one, side by side.

    python benchmarks/engine_memory.py            (about two minutes on two cores)

Each case runs in a process of its own, so that its peak is its own; the baseline (imports, network, data) is subtracted.
Prints a row per (engine, N) and the ratios that README and docs/method.md speak of.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

WIDTH, SIDE, IMAGES, REPEATS = 128, 32, 10, 3


def measure(engine: str, steps: int) -> dict[str, float]:
    """One case, in this process."""
    import torch

    from raydistill.core.architectures import ConvNet
    from raydistill.core.augment import Augmentation
    from raydistill.core.matching import Batch, Matcher, student_loss
    from raydistill.core.networks import build, initial_parameters

    network = build(ConvNet(width=WIDTH), IMAGES, SIDE)
    start = initial_parameters(network, 0)
    target = start + 0.001 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    loss = student_loss(network, Augmentation())
    loss(start, images, torch.eye(IMAGES), {})  # what any engine needs
    before = _peak_mb()
    matcher = Matcher(loss, engine)  # type: ignore[arg-type]
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        matcher.match(start, target, images, torch.eye(IMAGES), torch.tensor(0.01), [Batch(None, {})] * steps)
        seconds.append(time.perf_counter() - began)
    return {"mb": _peak_mb() - before, "seconds": statistics.median(seconds)}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    results = {}
    for engine in ("exact", "unrolled"):
        for steps in (10, 50):
            answer = subprocess.run(
                [sys.executable, __file__, engine, str(steps)], capture_output=True, text=True, check=True
            )
            results[engine, steps] = found = json.loads(answer.stdout)
            print(f"{engine:9s} N={steps:3d}   {found['mb']:7.0f} MB   {found['seconds']:6.2f} s an iteration")
    print(f"exact, N=50 against N=10:     memory x {results['exact', 50]['mb'] / results['exact', 10]['mb']:.2f}")
    for steps in (10, 50):
        exact, unrolled = results["exact", steps], results["unrolled", steps]
        memory, seconds = exact["mb"] / unrolled["mb"], exact["seconds"] / unrolled["seconds"]
        print(f"exact against unrolled, N={steps}: memory x {memory:.2f}, time x {seconds:.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
