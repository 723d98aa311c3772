"""Data-parallel training: what several processes of torchrun gain over one."""

import os
import subprocess
import sys
import time
from statistics import median
from typing import Any, NamedTuple

import torch

from neurosim.bench.timing import Result, Sizes, benchmark
from neurosim.bench.work import DP, random_batch, vgg16
from neurosim.learning import StepEvent, Trainer
from neurosim.network import Model
from neurosim.schedules import Sweep
from neurosim.simulation import Simulation
from neurosim.tensors import keep_memory

_TURNS = 4  # of each number of processes
_FIRST = 4  # steps that are not measured: some are recorded, and memory is taken


class Times(NamedTuple):
    """Seconds of a step, the processor's, and those in which the first process tells the others
    something, or waits for them."""

    wall: float
    cpu: float
    told: float


def train(images: int, thinner: int, steps: int) -> Times:
    """Trains VGG16 with batches in two shards; returns the medians over the last ``steps``."""
    steps += _FIRST
    x, target = random_batch(images * (steps + 1), 3, 32, 32)
    simulation = Simulation(
        Model(vgg16(thinner)), rule=DP, loss="cross_entropy", schedule=Sweep("backward", passes=1)
    )
    options: Any = {"epochs": 1, "batch_size": images, "shards": 2}
    small = x[:1], target[:1].argmax(1)
    how: Any = {"lr": 0.005, "momentum": 0.9, "weight_decay": 5e-4}  # as vgg16_cifar10 begins
    optimizer: Any = torch.optim.SGD(simulation.model.parameters(), **how, fused=True)
    trainer = Trainer(simulation, optimizer, (x, target.argmax(1)), small, **options)
    marks = []
    for event in trainer.events():
        if isinstance(event, StepEvent):
            now = time.perf_counter(), time.process_time(), trainer.ranks.seconds
            marks.append(torch.tensor(now, dtype=torch.float64))
    return Times(*(median(column) for column in torch.stack(marks[_FIRST:]).diff(dim=0).T.tolist()))


def _in_processes(count: int, sizes: Sizes) -> Times:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", "-m", "neurosim.bench.processes"]
    what = [2 * sizes.images, sizes.thinner, min(8, sizes.repeats)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *map(str, what)], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"torchrun has failed: {done.stderr.strip()}")
    return Times(*map(float, done.stdout.split()))


@benchmark("a step of data-parallel VGG16 in two processes of one thread, over one")
def data_parallel_speedup(sizes: Sizes) -> Result:
    found: dict[int, list[Times]] = {1: [], 2: []}
    for _ in range(_TURNS):
        for count, times in found.items():
            times.append(_in_processes(count, sizes))
    one, two = (Times(*map(median, zip(*times, strict=True))) for times in found.values())
    against = f"at least 1.6 with two free cores; {one.cpu / two.cpu:.2f} by processor time; "
    against += f"one process: {1e3 * one.wall:,.0f} ms; communication and waiting: "
    against += f"{two.told / two.wall:.0%} of a step of two"
    return one.wall / two.wall, "times", against


if __name__ == "__main__":
    keep_memory()  # as the command line does
    measured = train(*map(int, sys.argv[1:]))
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(" ".join(map(str, measured)))
