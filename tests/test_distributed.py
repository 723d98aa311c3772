"""Batches in shards: their sums and draws, and the same bits in any number of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import trained_together as together
from small_trainings import Stop, make
from torch import Tensor

import neurosim as ns
from neurosim import documents, schedules
from neurosim.learning import evaluation
from neurosim.learning.checkpoint import load_state
from neurosim.learning.distributed import added, branches, cuts
from neurosim.learning.trainer import TrainingPlan

# The threshold: round-off alone sends no message, which would have noise of its own.
NOISY = ns.Channels(
    mean=ns.Channel(noise=0.1, threshold=1e-9), difference=ns.Channel(loss=0.2, threshold=1e-9)
)


class Seen(ns.Listener):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_gradients(self, gradients: dict[str, Tensor]) -> None:
        self.gradients = self.gradients or {k: v.clone() for k, v in gradients.items()}


@pytest.mark.parametrize("shards", [1, 2, 5, 6, 8, 13])
def test_the_tree_is_the_same_for_any_number_of_processes(shards: int) -> None:
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((shards, 5))).float()

    def summed(node: tuple[int, int]) -> Tensor:  # written down once more
        first, end = node
        if end - first == 1:
            return values[first].clone()
        middle = first + 2 ** int(np.ceil(np.log2(end - first)) - 1)
        return summed((first, middle)) + summed((middle, end))

    expected = summed((0, shards))
    assert torch.allclose(expected, values.sum(0), atol=1e-5)
    for size in range(1, shards + 1):
        ends = [rank * shards // size for rank in range(size + 1)]
        owned = [branches((0, shards), (a, b)) for a, b in pairwise(ends)]
        found = {node: summed(node) for nodes in owned for node in nodes}
        assert sorted(k for a, b in found for k in range(a, b)) == list(range(shards))
        assert torch.equal(added((0, shards), found.get), expected)


def test_shards_differ_by_one_sample_at_most() -> None:
    sizes = [part.stop - part.start for part in cuts(13, 5)]
    assert (sum(sizes), min(sizes), max(sizes)) == (13, 2, 3)


@pytest.mark.parametrize("shards", [2, 3, 4])
@pytest.mark.parametrize("channels", [ns.Channels(), NOISY])
def test_the_gradient_is_that_of_the_whole_batch(shards: int, channels: ns.Channels) -> None:
    found = []
    for count in (1, shards):
        seen, plan = Seen(), TrainingPlan(epochs=1, max_steps=1, batch_size=10, shards=count)
        make(plan, channels=channels, schedule=schedules.Poisson(duration=8)).fit([seen])
        found.append(seen.gradients)
    assert all(torch.allclose(found[1][k], v, rtol=1e-12, atol=1e-15) for k, v in found[0].items())


REFUSED = {
    "more than samples": ({"training.shards": 13}, "13 shards need as many samples"),
    "carried": ({"init": "carry"}, "init is carry"),
    "within": ({"plasticity.every": 3}, "within inferences"),
    "noise": ({"rule": {"kind": "difference_target_propagation"}}, "learn by noise"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_cut_is_refused_where_it_stands(tmp_path: Path, case: str) -> None:
    options, said = REFUSED[case]
    with pytest.raises(ns.DocumentError, match=said) as raised:
        loaded(tmp_path, {"schedule": {"kind": "parallel", "ticks": 6}, **options})
    assert "training.shards" in str(raised.value)


@pytest.mark.parametrize(("shards", "said"), [(1, "training.shards=2"), (2, "start fewer")])
def test_processes_need_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, said: str
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(shards + 1))
    with pytest.raises(ns.DocumentError, match=said):
        loaded(tmp_path, {**together.CASES["sweep"], "training.shards": shards})
    with pytest.raises(ns.ConfigurationError, match="a sweep without torchrun"):
        ns.sweep(written(tmp_path, together.DIVERGES), {"seed": [1, 2]}, out=tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ns.DocumentError, match="WORLD_SIZE=two"):
        loaded(tmp_path, together.CASES["sweep"])


def written(folder: Path, more: dict[str, Any] | None = None) -> Path:
    path = folder / "together.yaml"
    path.write_text(documents.dumps(together.SCENARIO | (more or {"schedule": "parallel"})))
    return path


def loaded(folder: Path, options: dict[str, Any]) -> ns.Scenario:
    more = [f"{key}={json.dumps(value)}" for key, value in options.items()]
    return ns.Scenario.load(written(folder), more)


# ---- in processes --------------------------------------------------------------------------------


def torchrun(processes: int, *arguments: object, restarts: int = 0) -> str:
    """Runs trained_together.py; returns what it printed."""
    file = Path(together.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += ["--standalone", f"--max-restarts={restarts}", "--monitor-interval=0.1", str(file)]
    paths = os.pathsep.join([str(file.parent), str(file.parents[1])])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "NEUROSIM_TIMEOUT": "45"}
    said = [str(argument) for argument in arguments]
    done = subprocess.run([*command, *said], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case with 1, 2 and 4 processes, and one that went on from 2 to 4 to 1."""
    folder = tmp_path_factory.mktemp("together")
    file = written(folder)
    for processes, steps in ((2, 3), (4, 5)):
        torchrun(processes, "train", file, folder / str(processes), steps)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluation, "EVALUATION_BATCH", together.EVALUATED)
        together.train(file, folder / "1")
        ns.resume(folder / "resumed/resumed/1", listeners=[Stop(0)])
    return folder


def left(folder: Path) -> tuple[Any, ...]:
    """What a run came to: its records, its weights, and all that the training would go on from."""
    run = ns.load_run(folder)
    digests = run.summary["weights_sha256"], run.summary["metrics_sha256"]
    files = [path.name for path in folder.parent.iterdir()]
    return run.status, files, digests, plain(load_state(folder / "checkpoints/last.safetensors"))


def plain(tree: Any) -> Any:
    """A saved state without times, tensors as lists."""
    if isinstance(tree, Tensor):
        return tree.tolist()
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items() if k not in ("seconds", "laps", "scenario")}
    return [plain(part) for part in tree] if isinstance(tree, list | tuple) else tree


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("case", together.CASES)
def test_the_same_bits_in_any_number_of_processes(trained: Path, case: str, processes: int) -> None:
    one, several = (left(trained / str(n) / case / "1") for n in (1, processes))
    assert one == several
    assert one[0] == "finished"
    moved = ns.load_run(trained / "1" / case / "1").records["step"]
    assert len({record["loss"] for record in moved}) > 1


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(trained: Path) -> None:
    resumed, whole = (left(trained / name / "1") for name in ("resumed/resumed", "1/poisson"))
    assert resumed == whole


@pytest.mark.slow
def test_a_shard_that_diverges_ends_all_processes_alike(trained: Path, tmp_path: Path) -> None:
    """With the words of a training without shards."""
    with pytest.raises(ns.DivergenceError) as alone:
        together.run(
            written(tmp_path), tmp_path, "alone", {**together.DIVERGES, "training.shards": 1}
        )
    said = str(alone.value)
    assert said == (trained / "1/said-0").read_text()
    for processes in (2, 4):
        folder = trained / str(processes)
        assert {(folder / f"said-{rank}").read_text() for rank in range(processes)} == {said}
        summary = ns.load_run(folder / "diverges/1").summary
        assert (summary["status"], summary["error"]) == ("failed", said)


@pytest.mark.slow
def test_torchrun_goes_on_after_a_process_has_died_or_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", together.EVALUATED)
    file = written(tmp_path)
    said = torchrun(2, "fall", file, tmp_path, restarts=2)
    (folder,) = (tmp_path / "fallen").iterdir()
    whole = together.run(file, tmp_path, "fallen", together.CASES["poisson"])
    assert left(folder)[2:] == left(whole.folder)[2:]
    assert said.count("error: another process of this training has ended") == 2
    assert said.count("report  ") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_second_ctrl_c_under_torchrun_costs_nothing(tmp_path: Path) -> None:
    """torchrun leaves at once, and the processes end as the first one has asked them to."""
    scenario, case = written(tmp_path), {**together.CASES["sweep"], "training.epochs": 100_000}
    more = [f"{key}={json.dumps(value)}" for key, value in case.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += ["-m", "neurosim", "run", str(scenario), *more, "--out", str(tmp_path), "--quiet"]
    said = tmp_path / "said"
    with (
        said.open("w") as to,
        subprocess.Popen(
            command, stdout=to, stderr=to, cwd=Path(__file__).parents[1], start_new_session=True
        ) as process,
    ):
        until = time.monotonic() + 120
        while not list(tmp_path.glob("together/*/checkpoints/last.safetensors")):
            assert time.monotonic() < until
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        for _ in range(2):  # to all of them, as a terminal does
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        process.wait(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    (folder,) = (tmp_path / "together").iterdir()
    assert f"resume with    neurosim resume {folder}" in said.read_text()
    found = ns.load_run(folder)
    saved = load_state(folder / "checkpoints/last.safetensors")
    assert found.status == "interrupted"
    assert 0 < saved["trainer"]["step"] == found.summary["steps"] < 400_000
