"""What a program finds of its process after it has used neurosim: test_python_arguments.py runs it
in a process of its own, in which nothing was imported before."""

from __future__ import annotations

import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch


def state() -> dict[str, Any]:
    """What a library might change of the process, and neurosim must not."""
    cudnn, modes = torch.backends.cudnn, (torch.is_grad_enabled(), gc.isenabled())
    return {
        "flags": (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark),
        "modes": (*modes, torch.get_default_dtype(), torch.get_float32_matmul_precision()),
        "numpy": np.geterr(),
        "threads": torch.get_num_threads(),
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
        "random": (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())),
        "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "locale": locale.setlocale(locale.LC_ALL),
        "matplotlib": dict(matplotlib.rcParams),
        "others": (sys.excepthook, threading.active_count(), list(logging.root.handlers)),
    }


def use(scenario: str, out: str) -> None:
    """Does what a program does, and looks at its process after each step."""
    os.umask = None  # type: ignore[assignment]  # what is changed for a moment, other threads meet
    before = state()

    def look(done: str) -> None:
        now = state()
        assert now == before, (done, [key for key in before if now[key] != before[key]])

    import neurosim as ns

    for name in ns.__all__:
        getattr(ns, name)
    look("importing")
    import neurosim.cli.main

    look("importing the command line")
    file = ns.Scenario.load(Path(scenario), ["training.max_steps=1", "data.limit=50"])
    look("reading a scenario")
    one, data = file.simulation(file.model()), file.data()
    one.infer(torch.zeros(2, 64), torch.eye(10)[:2])
    look("an inference")
    ns.Trainer(one, "adam", data.train, data.test, epochs=1, batch_size=25).fit(progress=False)
    look("a training")
    ns.run(scenario, ["training.max_steps=1", "data.limit=50"], out=out, progress=False)
    look("a run")


if __name__ == "__main__":
    use(*sys.argv[1:])
