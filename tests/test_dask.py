"""A real cluster: a scheduler and workers as processes of their own, and what may befall them."""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from dask.config import set as configured
from dask_cluster import PARALLEL, ROOT, SHORT, Cluster, Watcher, check, cluster, run, wait
from distributed import KilledWorker, WorkerPlugin
from distributed.client import FutureCancelledError
from distributed.protocol.pickle import dumps

from neurosim.base import ConfigurationError, NeurosimError
from neurosim.cli.main import main
from neurosim.families import plugins
from neurosim.runs import Dask, sweep
from neurosim.runs.executors import dask
from neurosim.runs.executors.processes import TaskNews
from tests.plugged import SCHEDULE, Write, write

__all__ = ["cluster", "write"]  # the fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX"),
    pytest.mark.filterwarnings("ignore"),  # what Dask's own threads leave behind
]


def test_a_scheduler_imports_nothing_of_ours() -> None:
    """It unpacks what a task is, and would not answer for as long as torch is imported."""
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); print('neurosim' in sys.modules)"
    sent = dumps(dask._sent())
    found = subprocess.run(
        [sys.executable, "-c", code], input=sent, capture_output=True, check=True
    )
    assert found.stdout == b"False\n"


@pytest.mark.parametrize("collect", [False, True])
def test_the_runs_of_a_cluster_are_those_of_here(
    cluster: Cluster, tmp_path: Path, collect: bool
) -> None:
    """To the bit, and another executor finds nothing left to do."""
    cluster.scheduler()
    cluster.worker()
    cluster.worker()
    wait(cluster.file)
    there, here, watcher = tmp_path / "there", tmp_path / "here", Watcher()
    rows = run(there, Dask(str(cluster.file), collect), watcher)
    check(there, rows, watcher)
    for row in run(here, None, Watcher()):
        weights = Path(row.folder) / "checkpoints/model.safetensors"
        assert (there / weights).read_bytes() == (here / weights).read_bytes()
    again = Watcher()
    run(there, None, again)
    run(here, Dask(str(cluster.file), collect), again)
    assert again.begun == again.over == []


@pytest.mark.parametrize(("number", "collect"), [("KILL", False), ("STOP", False), ("STOP", True)])
def test_a_worker_is_lost(cluster: Cluster, tmp_path: Path, number: str, collect: bool) -> None:
    """It is killed, or not heard of (a stopped process is a network cut), and later heard again."""
    cluster.scheduler()
    first = cluster.worker()
    wait(cluster.file)

    def lose() -> None:
        first.send_signal(signal.Signals[f"SIG{number}"])
        threading.Timer(15, first.send_signal, [signal.SIGCONT]).start()
        cluster.worker()

    watcher, folder = Watcher(lose), tmp_path / "runs"
    rows = run(folder, Dask(str(cluster.file), collect), watcher, seeds=3)
    check(folder, rows, watcher)


@pytest.mark.parametrize(
    ("collect", "disk", "file"),
    [
        (False, 300_000, "last.safetensors"),
        (True, 300_000, "last.safetensors"),
        (True, 900, "scenario.yaml"),
    ],
)
def test_a_disk_is_full(
    cluster: Cluster, tmp_path: Path, collect: bool, disk: int, file: str
) -> None:
    """Each run says why it stopped, and the same command makes it good."""
    cluster.scheduler()
    full = cluster.worker(disk)
    wait(cluster.file)
    folder, executor, watcher = tmp_path / "runs", Dask(str(cluster.file), collect), Watcher()
    for row in run(folder, executor, watcher, seeds=2):
        assert row.status == "interrupted"
        assert re.search(rf"File too large.*{file}", row.summary["error"])
    full.kill()
    cluster.worker()
    watcher = Watcher()
    # Neither had come to its first checkpoint: there is nothing to go on from.
    check(folder, run(folder, executor, watcher, seeds=2), watcher, aside=2)


def test_the_scheduler_is_restarted(cluster: Cluster, tmp_path: Path) -> None:
    scheduler = cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    port = int(json.loads(cluster.file.read_text())["address"].rpartition(":")[2])

    def restart() -> None:
        scheduler.kill()
        scheduler.wait()
        cluster.scheduler(port)
        threading.Timer(3, cluster.worker).start()

    watcher = Watcher(restart, 2)
    rows = run(tmp_path / "runs", Dask(f"tcp://127.0.0.1:{port}"), watcher, seeds=5)
    check(tmp_path / "runs", rows, watcher)
    assert any(watcher.workers[2:])  # it still says who has what


def test_a_worker_does_not_see_the_folder(cluster: Cluster, tmp_path: Path) -> None:
    cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    task = (str(tmp_path / "elsewhere/a/b"), "")
    with pytest.raises(NeurosimError, match=r"does not see .*elsewhere; give a folder .*--collect"):
        list(Dask(str(cluster.file)).run(sweep.carry_out, [task], lambda: False))


@pytest.mark.parametrize("collect", [False, True])
def test_a_worker_tells_how_far_it_is(cluster: Cluster, tmp_path: Path, collect: bool) -> None:
    cluster.scheduler()
    cluster.worker(-1, "--name", "first")
    wait(cluster.file)
    watcher, executor = Watcher(), Dask(str(cluster.file), collect)
    planned = sweep.plan(PARALLEL, ["data.limit=100", "training.epochs=1000000"])
    found = sweep.run(
        planned, tmp_path, watcher, executor=executor, stop=lambda: bool(watcher.moves)
    )
    (row,) = found.rows
    assert (row.status, watcher.workers) == ("interrupted", ["first"])
    (moves,) = watcher.moves.values()
    done, total, words = moves[0]
    assert 0 < done <= row.summary["steps"]
    assert re.fullmatch(rf"epoch \d+  step {done}/{total}", words)


def test_workers_that_are_started_here_know_the_plugins(write: Write, tmp_path: Path) -> None:
    plugins.load(write(SCHEDULE))
    watcher, folder = Watcher(), tmp_path / "runs"
    rows = run(folder, Dask("local:2", True), watcher, "schedule={kind: every}", seeds=2)
    check(folder, rows, watcher)


KILLS = """
        if self.ticks == 7 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_kills_its_workers_has_failed_and_the_others_go_on(
    write: Write, tmp_path: Path
) -> None:
    """Workers that are started here come back, and who died is said once, by the run."""
    text = dedent(SCHEDULE).replace("def start(self, at):\n", f"def start(self, at):{KILLS}")
    file = write("import multiprocessing\nimport os\nimport signal\n" + text)
    command = [sys.executable, "-m", "neurosim", "sweep", str(PARALLEL), *SHORT]
    command += ["schedule={kind: every}", "schedule.ticks=7,8", "--plugin", str(file)]
    command += ["--executor", "dask", "--scheduler", "local:1", "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, "")
    said = r"failed .*/ticks-7\S* .*4 workers died of it, the last: tcp://\S+ \(is there"
    assert re.search(said, done.stdout)
    assert "2: 1 finished, 1 failed" in done.stdout


def test_ctrl_c_when_no_worker_is_left(cluster: Cluster, tmp_path: Path) -> None:
    """There is nobody to wait for."""
    cluster.scheduler()
    worker = cluster.worker()
    wait(cluster.file)
    watcher, until = Watcher(worker.kill), time.monotonic() + 120

    def stop() -> bool:
        assert time.monotonic() < until
        return worker.poll() is not None

    rows = run(tmp_path / "runs", Dask(str(cluster.file)), watcher, seeds=3, stop=stop)
    assert [row.status for row in rows].count("finished") == 0
    assert len(watcher.begun) == 1


class Killed:
    """A future of a task whose workers have died."""

    status = "error"

    def exception(self) -> Exception:
        return KilledWorker("task", SimpleNamespace(address="tcp://one:1"), 3)

    def add_done_callback(self, act: object) -> None:
        del act


class Client:
    """A cluster whose workers die: it notes what is submitted to it."""

    status, cluster = "running", None

    def __init__(self) -> None:
        self.submitted: list[Any] = []

    def submit(self, *_: Any, **how: Any) -> Any:
        self.submitted.append(how["key"])
        return Killed()


def test_a_run_that_waited_beside_one_that_killed_its_worker_is_not_to_blame() -> None:
    """Dask counts a worker's death for all that it was to do; it is submitted once more."""
    client, task = Client(), ("runs/a/b", "", "")
    over: Any = dask._Sweep(client, False, sweep.carry_out, [task], lambda task, how: None)

    def end() -> list[TaskNews]:
        ((future, number),) = over.pending.items()
        del over.pending[future]
        return list(over._over(future, number, lambda: False))

    over._submit(0)
    assert end() == []
    assert len(client.submitted) == 2
    began, died = end()
    assert (began.kind, died.kind, over.pending) == ("began", "died", {})
    assert str(died.message).startswith("4 workers died of it, the last: tcp://one:1 (is")


@pytest.mark.parametrize("lost", [FutureCancelledError("a", "lost"), OSError("away")])
def test_a_run_is_given_again_whose_result_is_lost_as_it_is_asked_for(lost: Exception) -> None:
    """The scheduler may go away between the news that it is over and its result."""

    class Lost(Killed):
        status = "finished"

        def result(self) -> object:
            self.status = "cancelled"
            raise lost

    client: Any = Client()
    client.subscribe_topic = lambda *_: None
    over: Any = dask._Sweep(client, False, sweep.carry_out, [("a/b", "")], lambda task, how: None)
    assert list(over._over(Lost(), 0, lambda: False)) == []
    assert (len(client.submitted), list(over.pending.values())) == (1, [0])
    assert dask._result(SimpleNamespace(status="finished", result=lambda: 3)) == 3


def test_workers_that_a_cluster_of_here_has_given_up_are_started_again() -> None:
    """Dask does so where one is away for a time, though it is about to come back."""
    client: Any = Client()
    asked = list[int]()
    client.cluster = SimpleNamespace(workers={}, worker_spec={0: {}, 1: {}}, scale=asked.append)
    over: Any = dask._Sweep(client, False, sweep.carry_out, [], lambda task, how: None)
    over._look(False)
    client.cluster.workers = {0: None, 1: None}
    over._look(False)
    assert asked == [2]


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ("nonsense", "there is no such file, and an address ends with a port"),
        ("nowhere.json", "there is no such file"),
        ("broken.json", "this file has no address"),
        ("other.json", "this file has no address"),
        ("tcp://127.0.0.1:1", "Timed out"),
        ("tls://127.0.0.1:1", "TLS"),
        ("carrier://pigeon:1", "unknown address scheme 'carrier'"),
    ],
)
def test_where_no_cluster_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str, said: str
) -> None:
    """No client of Dask is begun, whose end would take a minute and be a traceback."""
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    Path("other.json").write_text('{"a": 1}')
    monkeypatch.setattr("distributed.Client", lambda *_, **__: pytest.fail("a client"))
    with (
        configured({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ConfigurationError, match=rf"no cluster answers there \(.*{said}"),
    ):
        list(Dask(scheduler).run(sweep.carry_out, [("a/b/c", "", "")], lambda: False))


def test_workers_that_are_started_here_leave_without_a_word(tmp_path: Path) -> None:
    """Where another cluster has the port of Dask's pages, and though torch takes long to end."""
    with socket.socket() as other:
        with suppress(OSError):  # it is somebody else's
            other.bind(("127.0.0.1", 8787))
            other.listen()
        command = [sys.executable, "-m", "neurosim", "sweep", str(ROOT / "scenarios/parallel.yaml")]
        command += [*SHORT, "--executor", "dask", "--scheduler", "local:2", "--seeds", "2"]
        command += ["--out", str(tmp_path / "runs")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_ctrl_c_ends_workers_that_are_started_here(tmp_path: Path) -> None:
    """At once, and without a word of Dask."""
    command = [sys.executable, "-m", "neurosim", "sweep", str(PARALLEL), "schedule.ticks=100000"]
    command += ["data.limit=400", "data.batch_size=200", "--seeds", "4", "--executor", "dask"]
    command += ["--scheduler", "local:2", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 120
        while len(list(tmp_path.glob("*/*/*/metrics.jsonl"))) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        time.sleep(0.7)  # sooner it would be the same request
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    # Where all was over by then, the signal may meet a process that is past its handlers: 128 + 2.
    assert process.returncode in (130, -signal.SIGINT)
    assert said in (b"stopped at once\n", b"")
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


def test_workers_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without taking Python apart, which takes as long as torch and the other processes want."""
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *what: told.append(what))
    brief: Any = dask._brief(WorkerPlugin)
    brief.setup(None)
    assert told == [(os._exit, 0)]


def test_each_process_sees_a_device(tmp_path: Path) -> None:
    scenario = str(ROOT / "scenarios/parallel.yaml")
    command = ["sweep", scenario, *SHORT, "--seeds", "2", "--devices", "cpu,cpu", "--quiet"]
    found = CliRunner().invoke(main, [*command, "--out", str(tmp_path), "--name", "a"])
    assert "2: 2 finished, 0 failed" in found.output


@pytest.mark.parametrize("collect", [False, True])
def test_stopping_leaves_what_the_same_command_continues(
    cluster: Cluster, tmp_path: Path, collect: bool
) -> None:
    cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    watcher, folder, executor = Watcher(), tmp_path / "runs", Dask(str(cluster.file), collect)
    rows = run(folder, executor, watcher, seeds=9, stop=lambda: bool(watcher.begun))
    assert sum(row.status == "finished" for row in rows) < 9
    assert cluster.processes[1].poll() is None
    watcher = Watcher()
    check(folder, run(folder, executor, watcher, seeds=9), watcher)
    assert watcher.over
