"""Every vector that other people's code has made: how well each has to agree says `agreement`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.agreement import compared, peer_of
from tests.peers import read

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


@pytest.mark.skipif(not PEERS, reason="there are no vectors at ../shared/golden/peers")
@pytest.mark.parametrize("name", ["feedback", "weight_back"])
def test_a_file_with_feedback_weights(tmp_path: Path, name: str) -> None:
    """Those of Kolen and Pollack, here equal to the weights: they learn what the weights learn."""
    (path,) = (path for path in PEERS if path.stem == "dp23_dp_small")
    arrays, _ = read(path)
    for k in range(2, 6):
        arrays[f"{name}_{k}"] = arrays[f"weight_{k}"]
        arrays[f"grad_{name}_{k}"] = arrays[f"grad_weight_{k}"]
    np.savez(tmp_path / "dp23_kp_small.npz", **arrays)
    check(tmp_path / "dp23_kp_small.npz")
    assert "gradient of feedback 5" in compared(tmp_path / "dp23_kp_small.npz")
    np.savez(tmp_path / "dp23_kp_small.npz", other=arrays["loss"], **arrays)
    with pytest.raises(AssertionError, match="nothing was compared with other"):
        compared(tmp_path / "dp23_kp_small.npz")
