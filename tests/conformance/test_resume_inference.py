"""A simulation that is saved at any tick and continued elsewhere does what it would have done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import NETWORKS, SCHEDULES, UNITS, Case, phased_cases
from resume_worker import INFERENCES, digest_of_rest

import neurosim as ns

MODES = ("population", "neuron")


def make_cases() -> list[Case]:
    """Every schedule with and without learning; networks, units, starts, rules and channels take
    turns."""
    found = []
    for number, schedule in enumerate(SCHEDULES):
        for round_ in range(3):
            turn = 3 * number + round_
            network = list(NETWORKS)[(number + round_) % 3]
            unit = list(UNITS)[turn % len(UNITS)]
            init = ("zero", "feedforward", "carry")[round_]
            rule = "prediction" if init == "feedforward" and network != "skip" else None
            effects = turn % 4 == 0
            learn_every = (None, 3, 2)[round_]
            found.append(Case(network, schedule, unit, init, rule, learn_every, effects))
    return found


def save(path: Path, case: Case, before: str, after: str, seed: int) -> str:
    """Writes a simulation that stopped somewhere; returns the digest of the run without a stop."""
    whole, part = case.build(processes=before), case.build(processes=before)
    generator = np.random.default_rng(seed)
    number = int(generator.integers(0, INFERENCES))
    for earlier in range(number):
        whole.infer(earlier)
        part.infer(earlier)
    whole.start(number)
    part.start(number)
    # From the tick 0 on, and up to the last: saved before `finish`.
    last = 12 if case.rule is None else part.simulation.last_tick - part.simulation.tick
    ticks = int(generator.integers(0, last))
    part.simulation.advance(ticks)
    saved = {
        "case": asdict(case),
        "processes": after,
        "number": number,
        "model": dict(part.simulation.model.state_dict()),
        "optimizer": None if part.optimizer is None else part.optimizer.state_dict(),
        "simulation": part.simulation.state_dict(),
    }
    torch.save(saved, path)
    return digest_of_rest(whole, number)


# Each case from one process mode to another, which take turns, or from each to each.
CASES = [*make_cases(), *phased_cases(2, 4)]
EACH = list(product(CASES, MODES, MODES))
SOME = [EACH[4 * turn + turn % 4] for turn in range(len(CASES)) if turn % 3 == 0]


@pytest.mark.parametrize(
    "found", [SOME, pytest.param(EACH, marks=pytest.mark.slow)], ids=["some", "each"]
)
def test_resume(found: list[tuple[Case, str, str]], tmp_path: Path) -> None:
    """All of them go through one other process."""
    expected = {}
    for seed, (case, before, after) in enumerate(found):
        name = f"{case}-{before}-{after}"
        expected[name] = save(tmp_path / f"{name}.pt", case, before, after, seed)
    worker = Path(__file__).with_name("resume_worker.py")
    command = [sys.executable, "-W", "error", str(worker), str(tmp_path)]
    same_package = os.environ | {"PYTHONPATH": str(Path(ns.__file__).parents[1])}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=same_package
    )
    assert result.returncode == 0, result.stderr
    digests = json.loads((tmp_path / "digests.json").read_text())
    assert set(digests) == set(expected)
    assert [name for name in expected if digests[name] != expected[name]] == []
