"""What is done to the process, in one of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from neurosim.tensors import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.zeros(20_000_000)  # 80 MB, 20,000 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

{call}
for _ in range(4):
    last = faults()  # at first the pieces do not fit each other
print(last)
"""


def faults_with(call: str) -> int:
    command = [sys.executable, "-c", FAULTS.format(call=call)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_is_kept_is_used_again() -> None:
    assert faults_with("keep_memory()") < 1000


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosim.tensors import machine

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: pytest.fail("loaded a library"))
    machine.keep_memory()


def test_what_a_command_has_loaded_is_no_garbage() -> None:
    """It is looked at seldom, and in the end not at all. In other processes nothing changes."""
    code = (
        "import gc\nfrom neurosim.base import search_seldom, spare_loaded\n"
        "before = gc.get_threshold()\nspare_loaded()\n"
        "print(gc.get_threshold() == before, gc.get_freeze_count())\nsearch_seldom()\n"
        "print(gc.get_threshold()[0], gc.get_freeze_count())\nspare_loaded()\n"
        "print(gc.get_threshold()[0], gc.get_freeze_count() > 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True 0", "500000 0", "50000 True"]
