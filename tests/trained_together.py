"""What processes of torchrun train in test_distributed.py: every case in a folder of its own."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from small_trainings import Stop
from torch import Tensor

import neurosim as ns
from neurosim import documents
from neurosim.base import Launch
from neurosim.cli.main import main
from neurosim.learning import distributed, evaluation
from neurosim.learning.shards import Shards

EVALUATED = 7  # samples of a batch of an evaluation: there are some for all processes
SCENARIO: dict[str, Any] = {
    "name": "together",
    "network": {"input": [64], "layers": [{"name": "h", "dense": 12}, {"dense": 10}]},
    "data": {"name": "digits", "batch_size": 12, "limit": 48},
    "training": {"epochs": 2, "shards": 4, "metrics": ["confusion_matrix", "mse"]},
    "probes": ["accuracy", "messages"],
    "threads": 1,
}
LATE = {"delay": {"kind": "uniform", "low": 0, "high": 2}, "noise": 0.01}
LOSSY = {"loss": 0.1, "jitter": {"kind": "uniform", "low": 0, "high": 2}}
CHANNELS = {"mean": LATE, "difference": LOSSY}
POISSON = {"kind": "poisson", "duration": 12, "tick": 0.5}
CASES: dict[str, dict[str, Any]] = {
    "sweep": {
        "schedule": {"kind": "sweep", "order": "forward_backward", "passes": 2},
        "channels": {"mean": {"noise": 0.01}, "difference": {"loss": 0.1}},
    },
    "parallel": {"schedule": {"kind": "parallel", "ticks": 9}, "channels": CHANNELS},
    "poisson": {"schedule": POISSON, "channels": CHANNELS},
    "lazy": {
        "schedule": {"kind": "lazy", "duration": 14},
        "channels": {"mean": {**LATE, "threshold": 1e-3}, "difference": {"threshold": 1e-3}},
        "init": "zero",
    },
    "always": {  # lazy with no threshold: what a message is may hang on how a sum rounds
        "schedule": {"kind": "lazy", "duration": 14},
        "channels": {"mean": {"noise": 0.01}, "difference": LOSSY},
    },
    "augmented": {  # in shards of different sizes, the last batch is smaller
        "network": {"input": [1, 8, 8], "layers": [{"conv": 3}, {"dense": 10}]},
        "data.limit": 45,
        "data.augment": {"kind": "crop", "pad": 1},
        "data.remainder": "keep",
        "training.shards": 5,
        "schedule": {"kind": "random_order", "unit": "neuron", "groups": 4, "passes": 3},
        "plasticity": {"optimizer": {"kind": "sgd", "momentum": 0.9}, "clip": {"norm": 0.1}},
        "training.ema": 0.9,
    },
    "phases": {
        "rule": {"kind": "equilibrium_propagation", "variant": "random_sign", "free": 3},
        "schedule": {"kind": "sweep", "order": "forward", "passes": 4},
        "init": "zero",
        "training.evaluation": "settled",
    },
}
DIVERGES = {
    "schedule": {"kind": "sweep", "order": "backward", "passes": 1},
    "plasticity": {"optimizer": {"kind": "sgd", "lr": 1e30}},
}


class Seam(ns.Listener):
    """Halves gradients, and vetoes every third step."""

    steps = 0

    def on_gradients(self, gradients: dict[str, Tensor]) -> bool:
        self.steps += 1
        for name in gradients:
            gradients[name] = gradients[name] / 2
        return self.steps % 3 != 0


def run(scenario: Path, out: Path, name: str, case: dict[str, Any], *listeners: object) -> ns.Run:
    return ns.run(scenario, {"name": name, **case}, out=out, run_id="1", listeners=listeners)


def train(scenario: Path, out: Path) -> None:
    """Every case, to its end."""
    for name, case in CASES.items():
        run(scenario, out, name, case, *([Seam()] if name == "sweep" else []))
    try:
        run(scenario, out, "diverges", DIVERGES)
    except ns.DivergenceError as error:
        (out / f"said-{Launch.read().rank}").write_text(str(error))


def begin(scenario: Path, out: Path, after: int) -> None:
    """One case up to a step."""
    run(scenario, out, "resumed", CASES["poisson"], Stop(after))


def go_on(out: Path, after: int) -> None:
    ns.resume(out / "resumed/1", listeners=[Stop(after)])


def fall(scenario: Path, out: Path) -> None:
    """The command line, whose process 1 is killed the first time, and hangs the second."""
    take, launch = Shards.take, Launch.read()

    def taken(self: Shards, *arguments: Any) -> Any:
        step = self._simulation.inferences
        if launch.rank == 1 and step == 6 and launch.restarts < 2:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if launch.restarts == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        return take(self, *arguments)

    Shards.take = taken  # type: ignore[method-assign]
    more = [f"{key}={documents.dumps(value)}" for key, value in CASES["poisson"].items()]
    main(["run", str(scenario), "name=fallen", *more, "--out", str(out), "--quiet"])


def nothing_is_left() -> None:
    """Fails where a thread of the group is still there, as it could not end after Python."""
    tasks = Path("/proc/self/task")  # what Linux says
    names = [(task / "comm").read_text() for task in tasks.iterdir()] if tasks.exists() else []
    if any("gloo_runloop" in name for name in names):
        print(f"at the end there are {names}", flush=True)
        os._exit(1)


if __name__ == "__main__":
    atexit.register(nothing_is_left)  # before the group is there: so it is asked after its end
    evaluation.EVALUATION_BATCH = EVALUATED
    distributed._PART = 100  # of some thousand numbers, which go to the others part after part
    what, file, folder, *steps = sys.argv[1:]
    match what:
        case "train":
            train(Path(file), Path(folder))
        case "fall":
            fall(Path(file), Path(folder))
    if steps and what == "train":
        resumed = Path(folder).parent / "resumed"
        if resumed.exists():
            go_on(resumed, int(steps[0]))
        else:
            begin(Path(file), resumed, int(steps[0]))
