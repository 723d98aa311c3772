"""Every vector that other people's code has made: how well each has to agree says `agreement`."""

from pathlib import Path
from typing import Any

import pytest

from tests.agreement import compared, peer_of

GOLDEN = sorted((Path(__file__).parent / "data").glob("*.npz"))
PEERS = sorted((Path(__file__).parents[2] / "shared" / "golden" / "peers").glob("*.npz"))


def check(path: Path, **options: Any) -> None:
    found, limit = compared(path, **options), peer_of(path).limit
    assert found
    assert {what: off for what, off in found.items() if not off <= limit(what)} == {}


@pytest.mark.parametrize("compute", ["auto", "dense"])
@pytest.mark.parametrize("processes", ["population", "neuron"])
@pytest.mark.parametrize("unit", ["population", "neuron"])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path, unit: str, processes: str, compute: str) -> None:
    check(path, unit=unit, processes=processes, compute=compute)


def test_there_are_golden_files() -> None:
    assert len(GOLDEN) >= 14


@pytest.mark.skipif(not PEERS, reason="there are no vectors at ../shared/golden/peers")
@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_peers(path: Path) -> None:
    check(path)
