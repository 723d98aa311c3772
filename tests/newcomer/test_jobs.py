"""What people come for, each as a newcomer does it: with an installed wheel and their own data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from wheels import Newcomer

JOBS = Path(__file__).parent / "jobs"


def jobs(suffix: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "job", sorted(JOBS.glob(f"*.{suffix}")), ids=lambda one: one.stem
    )


@jobs("py")
def test_a_script(job: Path, researcher: Newcomer) -> None:
    if job.stem == "tracker":
        pytest.importorskip("tensorboard")
    assert researcher.run(researcher.python, "-I", job) == ""


@jobs("sh")
@pytest.mark.skipif(os.name == "nt", reason="commands of a POSIX shell")
def test_commands(job: Path, request: pytest.FixtureRequest) -> None:
    own = "newcomer" if job.stem == "empty_folder" else "researcher"
    who: Newcomer = request.getfixturevalue(own)
    who.run("sh", "-eu", job)


@jobs("ipynb")
def test_a_notebook(job: Path, researcher: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    kernel = researcher.folder / "jupyter/kernels/newcomer"
    kernel.mkdir(parents=True)
    start = [researcher.python, "-I", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    said = {"argv": start, "display_name": "newcomer", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(said))
    monkeypatch.setenv("JUPYTER_PATH", str(researcher.folder / "jupyter"))
    book, resources = nbformat.read(job, as_version=4), {"metadata": {"path": researcher.folder}}
    client = nbclient.NotebookClient(book, timeout=300, kernel_name="newcomer", resources=resources)
    client.execute(env=researcher.environment)
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert "test accuracy" in shown[-1].data["text/html"]
    assert all(output.output_type == "execute_result" for output in shown)
