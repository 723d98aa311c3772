"""The attacks of `make chaos`, in brief."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and reads /proc")
def test_a_small_budget_finds_nothing() -> None:
    command = [sys.executable, str(Path(__file__).parent / "chaos"), "1", "1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count(7 * " | 0" + " |") == 8
