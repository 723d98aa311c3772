"""What the tests of plugins share: files of plugins that are forgotten after the test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from neurosim.families import plugins

EXTRAS = Path(__file__).parent / "plugins" / "extras.py"
SCHEDULE = """
    from dataclasses import dataclass
    import numpy as np
    from neurosim.families import register
    from neurosim.schedules import Clock, Schedule

    class Every(Clock):
        def reschedule(self, tick, due):
            return np.full(len(due), tick + 1)

    @register("every")
    @dataclass(frozen=True)
    class EveryTick(Schedule):
        unit: str = "neuron"
        tick: float = 1.0
        ticks: int = 8

        def start(self, at):
            return Every(np.full(at.layout.total, at.tick + 1), at.tick + self.ticks)

        def restore(self, at, state):
            return Every(state["next"].numpy().copy(), state["end"])
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a plugin's file; what is loaded is forgotten again."""

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    before = set(sys.modules)
    yield write
    for module in [name for name in sys.modules if name not in before]:
        if module.startswith(("neurosim_plugin_", "my_plugin")):
            plugins.forget(module)
