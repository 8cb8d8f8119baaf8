"""Compare the speed of a generator with a plain loop after diffusers' example.

    python benchmarks/generation.py [generate] [sample]      one minute

The plain loop is written after the example `train_unconditional.py` of diffusers 0.42: a
`DataLoader` with random flips, `UNet2DModel`, `DDPMScheduler`, the squared error of the noise,
gradient clipping, `AdamW`, a cosine schedule with warm-up, `EMAModel`, and sampling by
`DDIMScheduler`. Both sides have the same network, batch, number format and number of network calls,
one process and one thread. Their rounds alternate; a ratio is the median of the rounds' ratios.

Rates are images per second of CPU time, which other processes of the machine affect little. Ray's
own part is not in them.

generate  a step of `raydistill.diffusion`, of one shard and of four.
sample    `raydistill.diffusion.sampling`.

Writes `benchmarks/results/generation.json`, rows as in `bench.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from bench import machine, row, show
from running import ROOT
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from raydistill.diffusion.conditions import ConditionLayout, Conditions
from raydistill.diffusion.model import Generator, build_generator, to_pixels
from raydistill.diffusion.network_options import UNet
from raydistill.diffusion.options import GeneratorTraining, Model, Sampling
from raydistill.diffusion.order import ImageOrder
from raydistill.diffusion.sampling import sample
from raydistill.diffusion.training import TrainingImages, init_training, shard_gradient
from raydistill.imports import import_beside_torchvision

RESULTS = ROOT / "benchmarks" / "results" / "generation.json"
ROUNDS = 3
BATCH, STEPS = 64, 4  # steps of a round
CALLS = 20  # of the network, per sample
PICTURES = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *CASES])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    for name in args.names or CASES:
        rows = [known for known in rows if known["case"] != name]
        for result in CASES[name]():
            rows.append(result | {"case": name})
            show(result)
        RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


# ---- both sides ----


def _generator() -> Generator:
    return build_generator(Model(), ConditionLayout(), 32, 0, torch.zeros(1, 32, 32, 3, dtype=torch.uint8))


class _Pictures(Dataset[Tensor]):
    """Pictures as the example prepares them: a random flip, then [-1, 1]."""

    def __init__(self, images_NHWC: Tensor) -> None:
        self.images_NHWC = images_NHWC

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images_NHWC[index].movedim(-1, 0).float().div(127.5).sub(1)
        return image.flip(-1) if torch.rand(()) < 0.5 else image


class _PlainNetwork(nn.Module):
    """The generator's network, called with steps from 0 to 999 and an embedding of 0."""

    def __init__(self) -> None:
        super().__init__()
        model = Model()
        assert isinstance(model.network, UNet)
        self.network, self.size = model.network.module((3, 32, 32)), 4 * model.network.channels[0]

    def forward(self, x_BCHW: Tensor, steps_B: Tensor) -> Tensor:
        predicted: Tensor = self.network(x_BCHW, steps_B / 1000, x_BCHW.new_zeros(len(x_BCHW), self.size))
        return predicted


def _alternating(sides: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return the rates of each side in rounds that alternate; a first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(1 + ROUNDS):
        for name, measure in sides.items():
            rate = measure()
            if number:
                rates[name].append(rate)
    return rates


def _compared(what: str, unit: str, rates: dict[str, list[float]], ours: str) -> dict[str, Any]:
    ratios = [own / plain for own, plain in zip(rates[ours], rates["plain"], strict=True)]
    medians = ", ".join(f"{name} {statistics.median(values):.1f}" for name, values in rates.items())
    detail = f"{medians} {unit}; rounds {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
    return row(f"{what}: speed of {ours} against a plain diffusers loop", statistics.median(ratios), "≥0.8", detail)


# ---- generate ----


def generation() -> Iterator[dict[str, Any]]:
    images_NHWC = torch.randint(256, (PICTURES, 32, 32, 3), dtype=torch.uint8)  # pixels do not change the speed
    plain = _plain_training(images_NHWC)
    sides = {"raydistill": _our_training(images_NHWC, 1), "4 shards": _our_training(images_NHWC, 4), "plain": plain}
    rates = _alternating(sides)
    for ours in ("raydistill", "4 shards"):
        yield _compared("generate", "images a second of CPU time", rates, ours)


def _our_training(images_NHWC: Tensor, shards: int) -> Callable[[], float]:
    training = GeneratorTraining(steps=10**6, batch_size=BATCH, shards=shards, warmup=10)
    state = init_training(_generator(), training)
    data = TrainingImages(images_NHWC, Conditions.unknown(len(images_NHWC), ConditionLayout()))
    order = ImageOrder((len(images_NHWC),), len(images_NHWC), 0)

    def measure() -> float:
        began = time.process_time()
        for _ in range(STEPS):
            gradients = [
                shard_gradient(state.model, data.rows(rows), training, 0, state.step, shard).gradient_P
                for shard, rows in enumerate(order.batch(state.step, BATCH).chunk(shards))
            ]
            state.apply(gradients, training.lr_at(state.step), training.max_norm)
        return BATCH * STEPS / (time.process_time() - began)

    return measure


def _plain_training(images_NHWC: Tensor) -> Callable[[], float]:
    ddpm = import_beside_torchvision("diffusers.schedulers.scheduling_ddpm").DDPMScheduler(num_train_timesteps=1000)
    cosine = import_beside_torchvision("diffusers.optimization").get_cosine_schedule_with_warmup
    average = import_beside_torchvision("diffusers.training_utils").EMAModel
    network = _PlainNetwork().train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, (0.95, 0.999), weight_decay=1e-6)
    schedule = cosine(optimizer, num_warmup_steps=10, num_training_steps=10**6)
    ema = average(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    loader = DataLoader(_Pictures(images_NHWC), BATCH, shuffle=True, drop_last=True)

    def batches() -> Iterator[Tensor]:
        while True:
            yield from loader

    endless = batches()

    def measure() -> float:
        began = time.process_time()
        for _ in range(STEPS):
            clean = next(endless)
            noise, steps = torch.randn_like(clean), torch.randint(0, 1000, (BATCH,))
            loss = F.mse_loss(network(ddpm.add_noise(clean, noise, steps), steps), noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            ema.step(network.parameters())
        return BATCH * STEPS / (time.process_time() - began)

    return measure


# ---- sample ----


def sampling() -> Iterator[dict[str, Any]]:
    ours, network = _generator().eval(), _PlainNetwork().eval()
    ddim = import_beside_torchvision("diffusers.schedulers.scheduling_ddim").DDIMScheduler(num_train_timesteps=1000)
    nothing = Conditions.unknown(BATCH, ConditionLayout())

    def measure_ours() -> float:
        began = time.process_time()
        to_pixels(sample(ours, nothing, torch.randn(BATCH, 3, 32, 32), Sampling(steps=CALLS, guidance=1.0)))
        return BATCH / (time.process_time() - began)

    @torch.no_grad()
    def measure_plain() -> float:
        began = time.process_time()
        x = torch.randn(BATCH, 3, 32, 32)
        ddim.set_timesteps(CALLS)
        for step in ddim.timesteps:
            x = ddim.step(network(x, step.expand(BATCH)), step, x).prev_sample
        to_pixels(x)
        return BATCH / (time.process_time() - began)

    rates = _alternating({"raydistill": measure_ours, "plain": measure_plain})
    yield _compared("sample", "images a second of CPU time", rates, "raydistill")


CASES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {"generate": generation, "sample": sampling}

if __name__ == "__main__":
    main()
