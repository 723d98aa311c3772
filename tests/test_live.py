"""The live view: what it answers while a run goes on, to whom, and that it changes nothing."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from browsers import dom
from click.testing import CliRunner
from small_trainings import Stop, make

import neurosim as ns
from neurosim.cli.main import main
from neurosim.learning.trainer import TrainingPlan
from neurosim.runs.listeners.live import MOST, LiveView, _Curve, live_view
from neurosim.scenario import Scenario

ROOT = Path(__file__).parents[1]
STREAM = ROOT / "scenarios/stream_digits.yaml"
SHORT = ["stream.horizon=96", "stream.window=3", "data.limit=60"]
PLAN = TrainingPlan(2, batch_size=20, loss_every=1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


class Visitor(ns.Listener):
    """Reads the page's data after each step, as a browser would."""

    def __init__(self, port: int) -> None:
        self.port, self.seen = port, list[dict[str, Any]]()

    def on_step(self, event: ns.StepEvent) -> None:
        self.seen.append(json.loads(ask(self.port, "/data")[1]))


def curves(data: dict[str, Any]) -> dict[str, list[list[float]]]:
    return {key: points for chart in data["charts"].values() for key, points in chart.items()}


def recorded(folder: Path) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "crc"} for line in found]


@pytest.fixture
def served() -> Iterator[tuple[LiveView, int]]:
    port = free_port()
    with live_view(port) as view:
        assert view is not None
        yield view, port


@pytest.mark.slow
def test_the_page_writes_numbers_as_reports_do(
    served: tuple[LiveView, int], tmp_path: Path
) -> None:
    """In percent, with the same units, and no two ticks of an axis alike."""
    view, port = served
    metrics = tmp_path / "metrics.jsonl"
    lines: list[dict[str, Any]] = [
        {"event": "step", "step": 1, "accuracy": 0.907, "loss": 67872.25},
        {"event": "step", "step": 2, "accuracy": 0.915, "loss": 67873.5},
        {"event": "epoch", "step": 2, "wakes": 1_728_400},
    ]
    metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    view.follow("demo", metrics)
    page = dom(f"http://127.0.0.1:{port}/", tmp_path, "--virtual-time-budget=3000")
    figures = re.findall("<figure>(.*?)</figure>", page)
    titles = [re.findall("<h3>(.*?)</h3>", figure)[0] for figure in figures]
    assert titles == ["Accuracy (%)", "Loss", "Wakes"]
    legends = [re.findall("</i>(.*?)</li>", figure) for figure in figures]
    assert legends == [["accuracy 91.5"], ["loss 67.87 k"], ["wakes 1.728 M"]]
    for figure in figures:
        ticks = re.findall('text-anchor="(end|middle)">(.*?)</text>', figure)
        assert len(set(ticks)) == len(ticks) > 2


# ---- a run -------------------------------------------------------------------------------------


def test_a_stream_is_watched_and_not_disturbed(tmp_path: Path) -> None:
    """What is answered within a step is what metrics.jsonl says of all before it."""
    port = free_port()
    plain = ns.run(Scenario.load(STREAM, SHORT), out=tmp_path, run_id="plain")
    visitor = Visitor(port)
    scenario = Scenario.load(STREAM, SHORT)
    run = ns.run(scenario, out=tmp_path, run_id="live", live=port, listeners=[visitor])
    lines = recorded(run.folder)
    assert lines == recorded(plain.folder)
    weights = "checkpoints/model.safetensors"
    assert (run.folder / weights).read_bytes() == (plain.folder / weights).read_bytes()
    last = visitor.seen[-1]
    assert (last["name"], last["status"], len(visitor.seen)) == (scenario.file.name, "running", 6)
    written = [[line["step"], line["wakes"]] for line in lines if line["event"] == "epoch"]
    assert len(written) > 1
    assert curves(last)["wakes"] == written[:-1]
    assert {"cumulative_accuracy", "mean_messages", "messages_per_right"} <= curves(last).keys()
    # Of single samples, each of which is right or wrong, what has faded of all so far.
    faded = dict(map(tuple, curves(last)["faded_accuracy"]))
    assert [*faded] == [1, 2, 3, 4, 5]
    for line in lines:
        if line["event"] == "epoch" and line["step"] in faded:
            assert faded[line["step"]] == pytest.approx(line["faded_accuracy"], rel=1e-12)
    with pytest.raises(ConnectionRefusedError):  # it ended with the run
        ask(port, "/")
    assert not any(thread.name == "live view" for thread in threading.enumerate())


def test_a_resumed_run_shows_what_came_before(tmp_path: Path) -> None:
    """Whether it was watched before or not, and its results are those of one that was not."""
    whole = ns.run(make(PLAN), out=tmp_path, run_id="whole")
    part = ns.run(make(PLAN), out=tmp_path, run_id="part", live=0, listeners=[Stop(4)])
    assert part.status == "interrupted"
    visitor = Visitor(free_port())
    ended = ns.resume(part.folder, make(PLAN), live=visitor.port, listeners=[visitor])
    assert ended.records == whole.records
    assert [x for x, _ in curves(visitor.seen[0])["loss"]] == [1, 2, 3, 4]


# ---- who is answered ---------------------------------------------------------------------------


def test_the_page_stands_alone(served: tuple[LiveView, int], tmp_path: Path) -> None:
    view, port = served
    (tmp_path / "metrics.jsonl").touch()
    view.follow("<b>&", tmp_path / "metrics.jsonl")
    answer, page = ask(port, "/")
    assert answer.status == 200
    assert "<h1>&lt;b&gt;&amp;</h1>" in page
    assert "frame-ancestors 'none'" in str(answer.getheader("Content-Security-Policy"))
    assert page.count("<script>") == 1
    assert re.search(r"default-src 'none'; connect-src 'self'; .*script-src 'sha256-", page)
    assert not re.search(r"(src|href)=", page)


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/data", "GET", "localhost:1", 200),
        ("/data", "GET", "evil.example", 400),  # whose name may be made to lead here
        ("/data", "GET", "127.0.0.1.evil.example", 400),
        ("/", "GET", "", 400),
        ("/data", "POST", "localhost", 405),
        ("/", "DELETE", "localhost", 405),
        ("/metrics.jsonl", "GET", "localhost", 404),
        ("/../../etc/passwd", "GET", "localhost", 404),
    ],
)
def test_nothing_else_is_answered(
    served: tuple[LiveView, int], path: str, method: str, host: str, status: int
) -> None:
    answer, text = ask(served[1], path, method, Host=host)
    assert answer.status == status
    assert answer.getheader("Access-Control-Allow-Origin") is None
    assert status == 200 or "charts" not in text


def test_only_this_machine_is_served(served: tuple[LiveView, int]) -> None:
    """Another address of this machine is not: nothing listens there."""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", served[1]), 5)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("port", [-1, 65536, True, "80"])
def test_what_is_no_port(port: Any, tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match="a port is a number from 1 to 65535, or 0"):
        ns.run(make(PLAN), out=tmp_path, live=port)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["run", str(STREAM), "--live", str(port), "--out", str(tmp_path)]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"cannot serve on port {port} (Address already in use)" in result.output
    assert not list(tmp_path.iterdir())


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ns.ConfigurationError, match=r"pip install 'neurosim\[live\]'"):
        ns.run(make(PLAN), out=tmp_path, live=0)
    assert not list(tmp_path.iterdir())


def test_a_study_has_none(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match="a study has no live view"):
        ns.run("parallel", ["study.kind=convergence"], out=tmp_path, live=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [1, 2, 3])
def test_no_port_is_a_free_one(place: int, tmp_path: Path) -> None:
    """Whatever follows the option; and it is said where, however quiet the run is."""
    arguments = ["run", str(STREAM), "stream.horizon=16", "data.limit=60"]
    arguments.insert(place, "--live")
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path), "--quiet"])
    assert result.exit_code == 0, result.output
    assert re.search(r"^live view  http://127.0.0.1:[1-9]\d+/$", result.output, re.M)


# ---- curves ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, MOST - 1, MOST, MOST + 1, 10 * MOST + 7, 100_003])
def test_a_curve_is_thinned(count: int) -> None:
    """Evenly, from the first point to the last."""
    curve = _Curve(0.0)
    for n in range(count):
        curve.add(n, -n)
    *kept, last = curve.points
    assert last == (count - 1, 1 - count)
    assert len(kept) < MOST
    every = 1 if len(kept) < 2 else int(kept[1][0])
    assert kept == [(n, -n) for n in range(0, count - 1, every)]
    assert count < MOST or len(kept) >= MOST // 2 - 1


def test_a_curve_of_means_that_fade() -> None:
    """By steps, of which some may be missing."""
    curve, values = _Curve(0.5), {1: 1.0, 2: 0.0, 5: 1.0}
    for n, value in values.items():
        curve.add(n, value)
    weights = [0.5**4, 0.5**3, 1.0]
    assert curve.points[:2] == [(1, 1.0), (2, pytest.approx(0.5 / 1.5))]
    assert curve.points[2] == (5, pytest.approx((weights[0] + weights[2]) / sum(weights)))
    curve.add(5, 1e299)  # nothing is too large for a mean
    assert curve.points[-1][1] < 1e299


def test_a_value_that_is_not_finite_is_no_point(served: tuple[LiveView, int]) -> None:
    view, port = served
    for step, loss in enumerate([0.5, float("nan"), float("inf"), 0.25]):
        view.on_step(ns.StepEvent(1, step, loss, 0.5, 0.1, 1, True))
    assert curves(json.loads(ask(port, "/data")[1]))["loss"] == [[0, 0.5], [3, 0.25]]
