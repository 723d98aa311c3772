"""Settings of the whole suite."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, here and in the processes that tests start: its tensors are small, and
# two workers with two threads each would get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# pytest-xdist tells its workers how wide the terminal is; what they run goes to a pipe.
os.environ.pop("COLUMNS", None)
# A shell has what it starts in the background ignore Ctrl-C, and so would what tests interrupt.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from hypothesis import HealthCheck, settings
from mirror import Mirror, mirrored
from undrawn import undraw

from neurosim.families import plugins

torch.set_num_threads(1)

# A deadline would measure the machine, and examples must be the same on every machine.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

ROOT = Path(__file__).parents[1]


def pytest_collection_finish() -> None:
    """What has been imported stays: to look for garbage in it takes a third of a second each time,
    and every run begins with that."""
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    """What one test adds to a family would be found by another, in some orders."""
    before = set(plugins.members_of())
    yield
    assert set(plugins.members_of()) == before


@pytest.fixture(autouse=True, scope="session")
def no_run_is_left_in_the_repository() -> Iterator[None]:
    """Tests write elsewhere: what is in its ``runs`` is of whoever works in it."""
    before = set(ROOT.glob("runs/*/*"))
    yield
    assert set(ROOT.glob("runs/*/*")) == before


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


@pytest.fixture(scope="module", autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pages have no charts, except in modules marked as `drawn`: to draw them takes most of a short
    run. What draws still describes what it would draw."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("drawn") is None:
            undraw(patch)
        yield


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """What the program downloads is small, and comes from this machine."""
    pytest.importorskip("pooch")
    with mirrored(monkeypatch) as served:
        yield served
