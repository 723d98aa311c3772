"""Settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

# Before torch is imported, here and in the processes that tests start: its tensors are small, and
# two workers with two threads each would get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from matplotlib.figure import Figure
from mirror import Mirror, mirrored

from neurosim.families import plugins

torch.set_num_threads(1)

# A deadline would measure the machine, and examples must be the same on every machine.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    """What one test adds to a family would be found by another, in some orders."""
    before = set(plugins.members_of())
    yield
    assert set(plugins.members_of()) == before


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """MNIST and CIFAR-10 beside the repository; skips where they are not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data are not here")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have no charts: to draw them takes most of a short run, and is the business of others
    (test_report, test_figures, test_scenarios)."""

    undraw(monkeypatch)


def undraw(patch: pytest.MonkeyPatch) -> None:
    """Does what `undrawn` says for as long as the patch holds."""

    def savefig(figure: Figure, file: TextIO, **options: Any) -> None:
        file.write('<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt"/>')

    patch.setattr(Figure, "savefig", savefig)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """What the program downloads is small, and comes from this machine."""
    pytest.importorskip("pooch")
    with mirrored(monkeypatch) as served:
        yield served
