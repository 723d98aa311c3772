"""Continues saved simulations in a process of its own; see `test_resume_inference.py`.

    python resume_worker.py FOLDER

Reads every ``*.pt`` in the folder and writes what comes of it to ``digests.json`` there.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cases import Case, Setup

import neurosim as ns

INFERENCES = 3


class Digest:
    """A hash of everything that a run leaves behind, to the last bit."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self.add([str(value.dtype), list(value.shape)])
            self._hash.update(value.detach().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                self._hash.update(repr(key).encode())
                self.add(item)
        elif isinstance(value, list | tuple):
            self._hash.update(f"{len(value)} items".encode())
            for item in value:
                self.add(item)
        else:
            self._hash.update(repr(value).encode())

    def add_outcome(self, outcome: ns.Outcome) -> None:
        for value in (outcome.plus, outcome.minus, outcome.prediction, outcome.trace.state_dict()):
            self.add(value)
        self.add(asdict(outcome.counts))
        self.add([outcome.time, outcome.ticks, outcome.stopped])

    def add_setup(self, setup: Setup) -> None:
        self.add(dict(setup.simulation.model.state_dict()))
        if setup.optimizer is not None:
            self.add(setup.optimizer.state_dict())
        self.add(setup.simulation.state_dict())

    def __str__(self) -> str:
        return self._hash.hexdigest()


def digest_of_rest(setup: Setup, number: int) -> str:
    """Runs the present inference, of batch ``number``, and the following ones to the end."""
    digest = Digest()
    setup.simulation.advance()
    digest.add_outcome(setup.simulation.finish())
    digest.add(setup.simulation.gradients())
    for following in range(number + 1, INFERENCES):
        digest.add_outcome(setup.infer(following))
    digest.add_setup(setup)
    return str(digest)


def load(path: Path) -> tuple[Setup, int]:
    saved = torch.load(path, weights_only=True)
    setup = Case(**saved["case"]).build(processes=saved["processes"])
    setup.simulation.model.load_state_dict(saved["model"])
    if setup.optimizer is not None:
        setup.optimizer.load_state_dict(saved["optimizer"])
    setup.simulation.load_state_dict(saved["simulation"], optimizer=setup.optimizer)
    return setup, saved["number"]


def main(folder: Path) -> None:
    digests = {path.stem: digest_of_rest(*load(path)) for path in sorted(folder.glob("*.pt"))}
    (folder / "digests.json").write_text(json.dumps(digests))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
