"""Files that the runs of a sweep read, and workers of Dask that have none of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from dask_cluster import PARALLEL, Cluster, Watcher, cluster, run, wait

from neurosim.learning import save_weights
from neurosim.runs import Dask
from neurosim.runs.executors import carried, dask
from neurosim.scenario import Scenario

__all__ = ["cluster"]  # the fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX"),
    pytest.mark.filterwarnings("ignore"),  # what Dask's own threads leave behind
]


class Away:
    """Puts files away once a sweep has looked at them, so that workers have none of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.sent = folder, list[str]()
        monkeypatch.setattr(dask, "digest_of", self._digest)
        monkeypatch.setattr(dask, "content_of", self._content)

    def _digest(self, path: Path) -> str:
        found = carried.digest_of(path)
        self.folder.mkdir(exist_ok=True)
        path.rename(self.folder / path.name)
        return found

    def _content(self, path: Path) -> dict[str, bytes]:
        self.sent.append(path.name)
        return carried.content_of(self.folder / path.name)

    def back(self, to: Path) -> None:
        for path in self.folder.iterdir():
            path.rename(to / path.name)


def own(folder: Path, what: str) -> list[str]:
    """Arguments of a sweep that reads files of its own."""
    folder.mkdir()
    x, y = np.random.default_rng(0).random((60, 64)), np.arange(60) % 10
    np.savez(folder / "own.npz", x=x.astype(np.float32), y=y)
    given = [f"data={{kind: npz, file: {folder / 'own.npz'}, batch_size: 10}}"]
    if "weights" in what:
        save_weights(Scenario.load(PARALLEL, ["seed=7"]).model(), folder / "w.safetensors")
        given.append(f"{what}={folder / 'w.safetensors'}")
    if what == "study.weights":
        given += ["study.kind=convergence", "study.samples=5", "study.tolerance=0.5"]
    return given


@pytest.mark.parametrize(
    ("what", "collect"), [("data", True), ("weights", False), ("study.weights", True)]
)
def test_files_that_workers_lack_travel_to_each_once(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, collect: bool
) -> None:
    given = own(tmp_path / "own", what)
    here = run(tmp_path / "here", None, Watcher(), *given, seeds=3)
    cluster.scheduler()
    cluster.worker()
    cluster.worker()
    wait(cluster.file)
    executor = Dask(str(cluster.file), collect)
    for name in ("there", "again"):
        with monkeypatch.context() as patch:
            away, watcher = Away(patch, tmp_path / "away"), Watcher()
            rows = run(tmp_path / name, executor, watcher, *given, seeds=3)
            away.back(tmp_path / "own")
        assert [row.status for row in rows] == ["finished"] * 3
        assert len(watcher.begun) == len(watcher.over) == 3
        for row in here if "study" not in what else ():
            weights = Path(row.folder) / "checkpoints/model.safetensors"
            made = [(tmp_path / where / weights).read_bytes() for where in ("here", name)]
            assert made[0] == made[1]
        names = ("own.npz", "w.safetensors")[: 1 + ("weights" in what)]
        first = name == "there"  # later they have them
        assert all(first <= away.sent.count(one) <= 2 * first for one in names), away.sent


def test_a_file_that_does_not_travel_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = own(tmp_path / "own", "data")
    monkeypatch.setattr(carried, "LARGEST", 1000)
    Away(monkeypatch, tmp_path / "away")
    cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    (row,) = run(tmp_path / "there", Dask(str(cluster.file)), Watcher(), *given, seeds=1)
    assert row.status == "failed"
    said = rf"{tmp_path}/own/own.npz is not on the worker, .*: put it there \(on the worker tcp"
    assert re.search(said, row.summary["error"])


def test_a_folder_has_a_digest_by_names_and_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/one").write_bytes(b"12345")
    first = carried.digest_of(tmp_path / "a")
    kept = carried.Kept(tmp_path / "kept")
    elsewhere = str(tmp_path / "elsewhere/a")
    digests = {elsewhere: first, str(tmp_path / "a"): first, str(tmp_path / "large"): ""}
    (copy,) = kept.copies(digests, {elsewhere: carried.content_of(tmp_path / "a")}).values()
    assert carried.digest_of(copy) == first == carried.digest_of(copy.parent / "a")
    assert (copy / "b/one").read_bytes() == b"12345"
    assert kept.copies(digests) == {elsewhere: copy}
    (tmp_path / "a/b/one").rename(tmp_path / "a/b/two")
    assert carried.digest_of(tmp_path / "a") not in ("", first)
    monkeypatch.setattr(carried, "LARGEST", 4)
    assert carried.digest_of(tmp_path / "a") == carried.digest_of(tmp_path / "none") == ""
