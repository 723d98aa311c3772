"""Samples in the order of time: series, generated and of files, the hyperplane, and events."""

from __future__ import annotations

import tempfile
import tracemalloc
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.data import Source
from neurosim.data.series import Events, FileSeries, Hyperplane, MackeyGlass


def test_a_series_sees_its_last_values_and_foretells(tmp_path: Path) -> None:
    values = np.arange(20.0).reshape(10, 2)
    np.save(tmp_path / "s.npy", values)
    rows = "a,b\n" + "\n".join(f"{a},{b}" for a, b in values)
    (tmp_path / "s.csv").write_text(rows)
    for file in ("s.npy", "s.csv"):
        data = FileSeries(file, taps=3, ahead=2, test=0.5).read(tmp_path)
        assert (len(data.train), len(data.test), data.outputs, data.classes) == (3, 3, 2, None)
        assert data.train.images[1].tolist() == [2, 3, 4, 5, 6, 7]
        assert data.train.labels[1].tolist() == [10, 11]
        assert data.test.labels[-1].tolist() == [18, 19]


def test_mackey_and_glass_by_another_integrator() -> None:
    """Euler with steps of a thousandth, over the first values: before chaos parts them."""
    x, lag = [1.2] * 17_001, 17_000
    for _ in range(60_000):
        late = x[-1 - lag]
        x.append(x[-1] + 1e-3 * (0.2 * late / (1 + late**10) - 0.1 * x[-1]))
    expected = np.array(x[17_000::1000])
    found = MackeyGlass(length=61, washout=0, test=0.1)._values(Path())[:, 0]
    np.testing.assert_allclose(found, expected, atol=2e-4)
    later = MackeyGlass(length=40, washout=21)._values(Path())[:, 0]
    np.testing.assert_array_equal(later, found[21:])
    rare = MackeyGlass(length=25, washout=5, step=2.0)._values(Path())[:, 0]
    np.testing.assert_array_equal(rare, found[10::2][:25])
    between = MackeyGlass(length=20, washout=0, step=2.55)._values(Path())[:, 0]
    np.testing.assert_allclose(
        between, np.interp(np.arange(20) * 2.55, np.arange(61), found), atol=2e-3
    )
    low = MackeyGlass(length=2, washout=0, start=0.5)._values(Path())[:, 0]
    assert abs(low[1] - low[0] - (0.2 * 0.5 / (1 + 0.5**10) - 0.05)) < 3e-3  # its first slope


def test_a_series_is_standardized_as_it_is_seen() -> None:
    """By what is seen in training; what is to be foretold stays as it is."""
    plain, found = (
        MackeyGlass(length=300, taps=4, standardize=how).read(Path()) for how in ("none", "channel")
    )
    seen = plain.train.images[:]
    mean, std = seen.double().mean(), seen.double().std(unbiased=False)
    for one, other in ((plain.train, found.train), (plain.test, found.test)):
        expected = ((one.images[:].double() - mean) / std).float()
        torch.testing.assert_close(other.take(slice(None)), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(other.labels, one.labels)
        assert other.in_time


def test_a_series_of_neurobench_begins_as_theirs() -> None:
    """The first values of the file that it is scored by, as others quote them: from a delay after
    the start on, 75 in a Lyapunov time of 197."""
    fine = MackeyGlass(length=100, washout=170, step=0.1, start=0.7206597)._values(Path())[:, 0]
    at = 10 * 197 / 75 * np.arange(3)
    found = np.interp(at, np.arange(len(fine)), fine)
    np.testing.assert_allclose(found, [1.266778, 1.303401, 1.282305], atol=2e-5)


def test_the_hyperplane_drifts() -> None:
    """A linear model fitted to the beginning is right there, and wrong at the end."""
    data = Hyperplane(length=8000, drifting=10, change=0.005, turning=0.0, noise=0.05).read(Path())
    x = torch.cat([data.train.images, data.test.images]).double()
    y = torch.cat([data.train.labels, data.test.labels])
    ones = torch.ones(len(x), 1, dtype=x.dtype)
    x = torch.cat([x, ones], 1)
    assert 0.4 < float(y.double().mean()) < 0.6
    fitted = torch.linalg.lstsq(x[:500], y[:500, None].double()).solution
    right = ((x @ fitted)[:, 0] > 0.5) == y.bool()
    assert float(right[:500].double().mean()) > 0.85
    still = Hyperplane(length=8000, change=0.0, noise=0.0).read(Path())
    assert still.classes == 2
    assert still.digest() == Hyperplane(length=8000, change=0.0, noise=0.0).read(Path()).digest()
    assert (
        still.digest()
        != Hyperplane(length=8000, change=0.0, noise=0.0, draw=1).read(Path()).digest()
    )


def test_events_hold_their_values(tmp_path: Path) -> None:
    """Sample k is what holds at its end; before the first class there is none."""
    rows = [(0.0, 0, 1.0), (1.5, -1, 1), (2.0, 1, 0.5), (2.5, 0, -2.0), (4.0, -1, 0), (7.0, 1, 3)]
    text = "t,index,value\n" + "\n".join(",".join(map(str, row)) for row in rows[::-1])
    (tmp_path / "e.csv").write_text(text)
    data = Events("e.csv", inputs=2, classes=2, test=0.34).read(tmp_path)
    seen = torch.cat([data.train.images[:], data.test.images[:]]).tolist()
    assert seen == [[1, 0.5], [-2, 0.5], [-2, 0.5], [-2, 0.5], [-2, 0.5], [-2, 3]]
    assert torch.cat([data.train.labels, data.test.labels]).tolist() == [1, 1, 0, 0, 0, 0]


@settings(max_examples=60)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 60), st.integers(-1, 4), st.integers(0, 2)), max_size=40
    ),
    first=st.integers(0, 70),
    step=st.sampled_from([1.0, 2.5, 7.0]),
    drawn=st.integers(0, 10),
)
def test_events_are_what_a_table_of_all_would_be(
    events: list[tuple[int, int, int]], first: int, step: float, drawn: int
) -> None:
    """However the samples are taken, one after the other or at random."""
    rows = sorted([*events, (first, -1, 1)], key=lambda row: row[0])
    table, labels, now, k = list[list[float]](), list[float](), [0.0] * 6, 0
    now[-1] = np.nan
    for place in range(max(1, ceil((rows[-1][0] - rows[0][0]) / step - 1e-9))):
        while k < len(rows) and rows[k][0] <= rows[0][0] + (place + 1) * step + 1e-9:
            now[rows[k][1]] = rows[k][2]
            k += 1
        if now[-1] == now[-1]:
            table.append(now[:-1])
            labels.append(now[-1])
    assume(len(table) > 1)  # one is for the test
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "e.npy", np.array([*events, (first, -1, 1)], dtype=np.float64))
        data = Events("e.npy", inputs=5, classes=3, step=step, test=0.1).read(Path(folder))
    expected = torch.tensor(table)
    splits = data.train, data.test
    assert torch.equal(torch.cat([one.images[:] for one in splits]), expected)
    assert torch.cat([one.labels for one in splits]).tolist() == labels
    size = len(data.train)
    some = torch.from_numpy(np.random.default_rng(drawn).integers(0, size, 9))
    assert torch.equal(data.train.take(some), expected[some])


def test_events_take_the_memory_of_events(tmp_path: Path) -> None:
    """Not that of all inputs at all times, here a hundred times as much."""
    random, count = np.random.default_rng(0), 20_000
    rows = np.zeros((count, 3))
    rows[:, 0] = np.sort(random.random(count) * 10_000)
    rows[:, 1] = random.integers(-1, 34 * 34 * 2, count)
    rows[0, 1] = -1
    np.save(tmp_path / "e.npy", rows)
    tracemalloc.start()
    try:
        data = Events("e.npy", inputs=34 * 34 * 2, classes=10, step=1.0).read(tmp_path)
        split = Source.of("samples").samples(data.train, 1, 0)
        assert split(7000).x.shape == (1, 34 * 34 * 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data.train) > 7900
    assert peak < 250 * count < 10_000 * 34 * 34 * 2 * 4 / 15


BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "index": ("0,5,1", {}, r"the index 5 is not in -1 … 1"),
    "class": ("0,-1,2", {}, r"the class 2 is not in 0 … 1"),
    "none": ("0,1,1", {}, "no event says a class"),
    "rows": ("0,1", {}, "three numbers"),
    "words": ("0,1,a", {}, "does not hold rows of numbers"),
    "nan": ("0,1,nan", {}, "not finite"),
    "large": ("0,-1,1\n1e9,1,1", {}, "too many; take a longer step"),
}


@pytest.mark.parametrize(("rows", "options", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_file_of_events(
    rows: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "e.csv").write_text(rows)
    with pytest.raises(ns.DataError, match=said):
        Events("e.csv", inputs=2, classes=2, header=False, **options).read(tmp_path)


def test_too_short_and_missing(tmp_path: Path) -> None:
    with pytest.raises(ns.DataError, match="cannot be read"):
        FileSeries("none.npy").read(tmp_path)
    np.save(tmp_path / "s.npy", np.arange(3.0))
    with pytest.raises(ns.DataError, match="3 values are too few for 3 taps and 1 ahead"):
        FileSeries("s.npy", taps=3).read(tmp_path)
