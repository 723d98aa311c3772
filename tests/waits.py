"""How often an inference waits for a device, on one that is not there: ``python -m tests.waits``.

Prints the tables of docs/defence.md, and how many offers of messages had none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from away import AWAY, Elsewhere
from small_simulations import random

import neurosim as ns
from neurosim.dynamics.outlet import Offer
from neurosim.schedules import Parallel, Periodic, Poisson, RandomOrder, Sweep

SIZES = {10: [10, 10, 10, 10], 50: [64, 128, 64, 10]}  # of layers, by the batch
CLOCKS: dict[str, Any] = {"unit": "neuron", "duration": 24.0, "tick": 0.25}
SCHEDULES = {
    "sweep down": Sweep("backward", passes=1),
    "parallel": Parallel(32),
    "random order, neurons": RandomOrder("neuron", groups=8, passes=12),
    "Poisson clocks, neurons": Poisson(**CLOCKS),
    "periodic clocks, neurons": Periodic(**CLOCKS),
}
CHANNELS = {
    "ideal": ns.Channel(),
    "threshold 0.02": ns.Channel(threshold=0.02),
    "delay 2": ns.Channel(delay=2.0),
    "8 bits in ±4": ns.Channel(quantize=ns.Quantize(8, 4.0)),
    "noise 0.05": ns.Channel(noise=0.05),
}


def simulated(
    sizes: Sequence[int], schedule: ns.Schedule, channel: ns.Channel, device: Any
) -> ns.Simulation:
    layers = [{"dense": size} for size in sizes[1:]]
    model = ns.Model(ns.Network.from_dict({"input": sizes[0], "layers": layers}))
    channels = ns.Channels(channel, channel)
    return ns.Simulation(model, schedule=schedule, channels=channels, device=device)


def main() -> None:
    for batch, sizes in SIZES.items():
        print(f"\n{'-'.join(map(str, sizes))}, batch {batch}\n")
        table(batch, sizes)


def table(batch: int, sizes: Sequence[int]) -> None:
    x, y = (
        random(batch, size, seed=seed).float() for seed, size in ((1, sizes[0]), (2, sizes[-1]))
    )
    print(f"| schedule (ticks) | {' | '.join(CHANNELS)} |\n|---{'|---' * len(CHANNELS)}|")
    take, counted = Offer.take, [0, 0, 0]

    def noted(offer: Offer, answers: Sequence[int], *more: Any) -> bool:
        sent = take(offer, answers, *more)
        ends = sent and offer.nonzero is not None and not answers[offer.nonzero]
        counted[:] = (n + one for n, one in zip(counted, (1, not sent, ends), strict=True))
        return sent

    Offer.take = noted  # type: ignore[method-assign]
    told = []
    for name, schedule in SCHEDULES.items():
        found: list[int] = []
        for over, channel in CHANNELS.items():
            here = simulated(sizes, schedule, channel, "cpu")
            counted[:] = 0, 0, 0
            here.start(x, y)
            here.advance()
            ticks = here.finish().ticks
            told.append(f"{name}, {over}: {counted[1]} of {counted[0]}, {counted[2]} end")
            with Elsewhere() as mode:
                simulation = simulated(sizes, schedule, channel, AWAY)
                given = [tensor.to(AWAY) for tensor in (x, y)]
                for _ in range(4):
                    waits = mode.during(lambda: simulation.infer(*given))  # noqa: B023
            found.append(len(waits) - 2)  # without those that ask if the batch is finite
        print(f"| {name} ({ticks}) | {' | '.join(map(str, found))} |")
    print("\noffers with no message, and differences that end:", *told, sep="\n")


if __name__ == "__main__":
    main()
