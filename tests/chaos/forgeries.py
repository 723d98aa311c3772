"""Checkpoints in which a value is wrong, and the checksum right: nothing damages so by chance."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path
from typing import Any

from damages import MAKE, NEW, stopped
from processes import Attack, Case, command

from neurosim.learning.checkpoint import load_state, save_state

sys.path.append(str(Path(__file__).parents[1]))
from forged import leaves, replaced, wrong

# What is under way in the middle of an inference, of an epoch, and of a stream.
LATE = "{delay: 2, jitter: {kind: uniform, low: 0, high: 2}, loss: 0.1}"
BASES = {
    "run": MAKE["run"],
    "stream": [
        *MAKE["stream"],
        "channels.mean={delay: 2, jitter: {kind: uniform, low: 0, high: 2}, loss: 0.1}",
    ],
}


class Forgery(Attack):
    name, weight = "a wrong value in a checkpoint with the right checksum; then resume", 5

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.states = dict[str, tuple[Path, Path, Any, list[Any]]]()
        for base, arguments in BASES.items():
            out = work / "forged" / base
            case = Case(work, *arguments, "--out", out, prepare=stopped(3)).wait()
            assert case.code == 130, case.output
            folder = out / NEW[base]
            path = sorted(folder.rglob("last*.safetensors"))[-1]
            state = load_state(path)
            self.states[base] = folder, path.relative_to(folder), state, list(leaves(state))

    def attempt(self, rng: random.Random) -> tuple[str, str]:
        base = rng.choice(list(self.states))
        folder, name, state, found = self.states[base]
        way, value = rng.choice(found)
        other = rng.choice(list(wrong(value)))
        copy = self.work / "forgery"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        save_state(copy / name, replaced(state, way, other))
        code, output, failure = command("resume", copy)
        detail = f"{base}: {'.'.join(map(str, way))} = {other!r:.50}, exit {code}"
        return failure, detail + (f": {output[-700:]}" if failure else "")
