"""Numbers that lie far from zero, or close to it, and what standardizing makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosim import TorchData
from neurosim.base import ConfigurationError
from neurosim.data.columns import Csv, Parquet
from neurosim.data.series import FileSeries, MackeyGlass
from neurosim.data.source import DataSource

N = 200
DRAWS = np.random.default_rng(0).normal(size=N)
# A time stamp, a pressure, a current, and what never differs.
COLUMNS = {
    "t": 1.7e9 + 0.5 * np.arange(N),
    "p": 101325.0 + 0.01 * DRAWS,
    "i": 1e-10 * DRAWS,
    "c": np.full(N, 0.1),
}
LABELS = ["owl", "fox"] * (N // 2)


def sources(folder: Path, standardize: Any) -> list[DataSource]:
    table = {name: list(map(repr, map(float, values))) for name, values in COLUMNS.items()}
    rows = zip(*table.values(), LABELS, strict=True)
    text = [",".join(row) for row in [(*table, "y"), *rows]]
    (folder / "a.csv").write_text("\n".join(text) + "\n")
    how: Any = {"label": "y", "split": "ordered", "standardize": standardize}
    x, y = np.stack([*COLUMNS.values()], 1), np.arange(N) % 2
    found: list[DataSource] = [
        Csv("a.csv", **how),
        TorchData((x, y), split="ordered", standardize=standardize),
    ]
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return found
    parquet.write_table(pa.table({**COLUMNS, "y": LABELS}), folder / "a.parquet")
    return [*found, Parquet("a.parquet", **how)]


@pytest.mark.parametrize("standardize", ["channel", "pixel"])
def test_columns_with_offsets(standardize: Any, tmp_path: Path) -> None:
    """Each has mean 0 and deviation 1, but what never differs, which has deviation 0."""
    for source in sources(tmp_path, standardize):
        found = source.read(tmp_path).train.take(slice(None)).double()
        assert torch.allclose(found.mean(0), torch.zeros(4).double(), atol=1e-6), source.kind
        expected = torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
        assert torch.allclose(found.std(0, correction=0), expected, atol=1e-6), source.kind
        assert len(found[:, 0].unique()) == len(found)


def test_columns_of_a_series(tmp_path: Path) -> None:
    """Each is standardized by itself, whatever the taps."""
    values = np.stack([COLUMNS["t"], 20.0 + DRAWS], 1)
    np.save(tmp_path / "s.npy", values)
    source = FileSeries("s.npy", taps=3, standardize="channel")
    data = source.read(tmp_path)
    train = data.train.take(slice(None)).double().view(-1, 3, 2)
    assert torch.allclose(train.mean((0, 1)), torch.zeros(2).double(), atol=1e-6)
    assert torch.allclose(train.std((0, 1), correction=0), torch.ones(2).double(), atol=1e-6)
    # In the order of what is not standardized: the oldest value of all columns first.
    plain = FileSeries("s.npy", taps=3).read(tmp_path).train.take(slice(None)).view(-1, 3, 2)
    line = torch.stack([plain[:, :, 1].flatten().double(), train[:, :, 1].flatten()])
    assert float(torch.corrcoef(line)[0, 1]) == pytest.approx(1.0)


@pytest.mark.parametrize("tau", [0.04, 0.05, 17.04])
def test_a_delay_that_is_no_number_of_steps(tau: float) -> None:
    with pytest.raises(ConfigurationError, match=r"tau is .*, which is no number of steps of 0\.1"):
        MackeyGlass(tau=tau)
