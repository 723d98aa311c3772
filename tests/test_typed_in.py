"""Kinds that are typed into a session of Python, as in a notebook."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

TYPED = """
    from dataclasses import dataclass
    import torch, neurosim as ns

    def typed(name, value):
        @ns.register(name)
        @dataclass(frozen=True)
        class Mine(ns.Probe):
            def measure(self, seen):
                return value
        return Mine

    def said(*arguments):
        try:
            return typed(*arguments).kind
        except ns.NeurosimError as error:
            return str(error)

    print(said("mine", {"x": 1.0}), said("mine", {"x": 2.0}))
    print(said("residual", {}))
    network = ns.Network.from_dict({"input": [2], "layers": [{"dense": 1}]})

    def recorded(value):
        typed("mine", value)
        simulation = ns.Simulation(ns.Model(network), schedule="sweep", probes=["mine"])
        try:
            return simulation.infer(torch.ones(1, 2), torch.ones(1, 1)).trace["mine"][-1]["x"]
        except ns.NeurosimError as error:
            return str(error)

    print(recorded({"x": 2.0}))
    print(recorded({"x": torch.tensor(2.0)}))
    print(recorded(2.0))
"""


def test_a_cell_that_runs_again() -> None:
    """Its kind is the new one; those of others stay, and what cannot be written is named."""
    command = [sys.executable, "-c", dedent(TYPED)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "mine mine",
        next(line for line in done.stdout.splitlines() if "'residual' exists already" in line),
        "2.0",
        "__main__: the probe 'mine' records a Tensor as 'x': record numbers, float(…)",
        "__main__: the probe 'mine' measures 2.0, which is no mapping: return {name: number}, or "
        "None",
    ]
