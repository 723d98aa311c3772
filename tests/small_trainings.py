"""A small training on the first images of the digits."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch

import neurosim as ns
from neurosim import schedules
from neurosim.data import digits
from neurosim.learning.trainer import Trainer, TrainingPlan
from neurosim.maths.optimizers import (
    SGD,
    OptimizerChoice,
)
from neurosim.simulation.simulation import Simulation

NETWORK = {"input": [1, 8, 8], "layers": [{"name": "h", "dense": 12}, {"dense": 10}]}


def make(
    plan: TrainingPlan,
    *,
    images: int = 60,
    validation: int = 0,
    optimizer: OptimizerChoice = SGD(lr=0.1),  # noqa: B008
    learn_every: int | None = None,
    probes: Any = (),
    init: Any = "feedforward",
    network: Any = NETWORK,
    **options: Any,
) -> Trainer:
    """A trainer of a small network on the first images of the digits."""
    model = ns.Model(ns.Network.from_dict(network), dtype=torch.float64)
    data = digits(dtype=torch.float64).limit(images, 30)
    train, held = data.validation(validation) if validation else (data.train, None)
    simulation = Simulation(
        model,
        init=init,
        schedule=options.pop("schedule", schedules.Sweep("forward_backward", 2)),
        learn_every=learn_every,
        probes=probes,
        **options,
    )
    return Trainer(simulation, optimizer, train, data.test, plan, validation=held)


def events(trainer: Trainer, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of one kind, or all of them."""
    found = [record for event in trainer.events() if (record := event.record()) is not None]
    return [record for record in found if kind in (None, record["event"])]


class Stop(ns.Listener):
    """Interrupts a run after a step."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, event: ns.StepEvent) -> None:
        if event.step == self.after:
            os.kill(os.getpid(), signal.SIGINT)
