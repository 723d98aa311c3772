"""Plugins: loading, what is in force, what a run that goes on asks for, and `neurosim check`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import neurosim as ns
from neurosim.base import PluginError
from neurosim.cli.main import main
from neurosim.conformance.simulations import FLAT, model_of
from neurosim.families import plugins
from neurosim.runs.executors.processes import Tell, run_all
from neurosim.schedules import Schedule
from tests.plugged import SCHEDULE, Write, write

__all__ = ["write"]  # the fixture

# ---- loading -------------------------------------------------------------------------------------


def test_a_file_is_loaded_once(write: Write) -> None:
    path = write(SCHEDULE)
    module = plugins.load(path)
    assert plugins.load(path) == module
    assert plugins.load(write(SCHEDULE, "copy.py")) == module  # the same content
    assert [member.__name__ for member in plugins.members_of(module)] == ["EveryTick"]
    assert list(path.parent.iterdir()) == [path.parent / "copy.py", path]  # no compiled files
    found = ns.Simulation(model_of(FLAT), schedule=Schedule.of("every")).infer(torch.ones(1, 5))
    assert found.ticks == 8
    plugins.forget(module)
    with pytest.raises(ns.ConfigurationError, match="unknown schedule 'every'"):
        Schedule.of("every")


@pytest.mark.parametrize("base", [ns.Plasticity, ns.Feedback, ns.Rule, ns.ListenerChoice])
def test_a_base_class_is_no_member(base: type) -> None:
    """Some have no abstract method."""
    with pytest.raises(ns.ConfigurationError, match=f"{base.__name__} is the base class"):
        base()


def test_what_is_in_force(write: Write) -> None:
    before = plugins.in_force()
    path = write(SCHEDULE)
    plugins.load(path)
    (found,) = [plugin for plugin in plugins.in_force() if plugin not in before]
    assert found.file == str(path)
    assert found.package is None
    assert f"# plugin mine.py, SHA-256 {found.sha256}\n" in plugins.comment()
    plugins.require([found])


def test_from_python_an_import_is_enough(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(SCHEDULE, "my_plugin.py")
    monkeypatch.syspath_prepend(path.parent)
    __import__("my_plugin")
    assert isinstance(Schedule.of("every"), Schedule)
    assert str(path) in [plugin.file for plugin in plugins.in_force()]


def test_installed_packages(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(SCHEDULE, "my_plugin.py")
    about = path.parent / "my_plugin-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.2\n")
    (about / "top_level.txt").write_text("my_plugin\n")
    entry = about / "entry_points.txt"
    entry.write_text("[neurosim.plugins]\nevery = my_plugin\n")
    monkeypatch.syspath_prepend(path.parent)
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0, result.output
    (found,) = [plugin for plugin in plugins.in_force() if plugin.file == str(path)]
    assert found.package == "my-plugin 1.2"
    entry.write_text("[neurosim.plugins]\nevery = my_plugin_2\n")
    write("\n\n1 / 0\n", "my_plugin_2.py")
    said = r"my_plugin_2.py:3: ZeroDivisionError: .* \(the entry point my_plugin_2\)"
    with pytest.raises(PluginError, match=said):
        plugins.load_installed()


BROKEN = {
    "syntax": ("import numpy\ndef f(:\n    pass\n", 2, "invalid syntax"),
    "raises": ("\nnone = None\nnone.some\n", 3, "AttributeError: 'NoneType' object has no"),
    "exits": ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    "import": ("import numpy\nimport numpie\n", 2, "ModuleNotFoundError: No module named 'numpie'"),
    "no family": (
        "from neurosim.families import register\n\n@register('it')\nclass It:\n    pass\n",
        3,
        "It derives from none of ",
    ),
    "missing method": (SCHEDULE.replace("def start", "def started"), 11, "lacks start"),
    "not frozen": (SCHEDULE.replace("(frozen=True)", ""), 11, "must be a frozen dataclass"),
    "taken": (SCHEDULE.replace('"every"', '"lazy"'), 11, "'lazy' exists already \\(.*clocks.py:"),
    "field": (SCHEDULE.replace("ticks: int", "ticks: Every"), 11, "no document can hold ticks:"),
}


@pytest.mark.parametrize("broken", list(BROKEN))
def test_broken_files(write: Write, broken: str) -> None:
    """The message begins with the file and line; the command line says nothing else."""
    text, line, message = BROKEN[broken]
    path, before = write(text), plugins.members_of()
    with pytest.raises(PluginError, match=message) as caught:
        plugins.load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert plugins.members_of() == before
    result = CliRunner().invoke(main, ["schema", "--plugin", str(path)])
    assert result.exit_code == 2
    assert result.output == f"error: {caught.value}\n"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"none\.py:1: the plugin cannot be read: No such file"):
        plugins.load(tmp_path / "none.py")


def test_half_a_plugin_is_none(write: Write) -> None:
    path = write(SCHEDULE + "\n    1 / 0\n")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        plugins.load(path)
    assert "every" not in Schedule.family


# ---- a run that goes on --------------------------------------------------------------------------


def test_a_run_asks_for_its_plugins(write: Write) -> None:
    path = write(SCHEDULE)
    module = plugins.load(path)
    (found,) = [plugin for plugin in plugins.in_force() if plugin.file == str(path)]
    plugins.forget(module)
    said = (
        rf"^{path}:1: this plugin, .*{found.sha256[:12]}…\), is not in force; add --plugin {path}$"
    )
    with pytest.raises(PluginError, match=said):
        plugins.require([found])
    plugins.load(write(SCHEDULE + "    # another\n"))
    with pytest.raises(PluginError, match=rf"^{path}:1: not the content that the run began with"):
        plugins.require([found])
    installed = plugins.Plugin("/there/theirs.py", "0" * 64, "their-package 3.1")
    with pytest.raises(PluginError, match=r"theirs\.py:1: .*; install their-package 3\.1$"):
        plugins.require([installed])


def members_there(task: tuple[str, ...], tell: Tell) -> str | None:
    """Work for another process."""
    return f"{task[0]}: {', '.join(member.kind for member in plugins.members_of())}"


@pytest.mark.slow
def test_other_processes_have_them_too(write: Write) -> None:
    """And say so where they cannot, as the file has changed meanwhile."""
    path = write(SCHEDULE)
    plugins.load(path)
    work = plugins.carried(members_there)
    first = [new.message for new in run_all(work, [("a",)], 1, lambda: False)]
    assert [message for message in first if message] == ["a: every"]
    write(SCHEDULE + "    # another\n")
    then = [new.message for new in run_all(work, [("b",)], 1, lambda: False)]
    (said,) = [message for message in then if message]
    assert said.startswith(f"{path}:1: not the content that the run began with")


# ---- what a class says of itself ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"trained": "gradiant"}, "trained = 'gradiant'; it must be 'gradient', 'noise' or None"),
        ({"trained": "noise", "separate": False}, "no weight of its own: set separate = True"),
    ],
)
def test_a_feedback_that_contradicts_itself(said: dict[str, object], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        type("Mine", (ns.Feedback,), said)


def test_an_unknown_option() -> None:
    with pytest.raises(ns.ConfigurationError, match="'evry'; did you mean 'every'"):
        ns.Plasticity.of("contrastive_hebbian", evry=2)


SNEAKY = """
    from dataclasses import dataclass
    import neurosim as ns

    @ns.register("sneaky")
    @dataclass(frozen=True)
    class Sneaky(ns.Prediction):
        def predict(self, simulation, x):
            simulation.start(x)
            simulation.advance()
            yield simulation.finish().prediction
"""


def test_a_prediction_that_disturbs_the_training(write: Write) -> None:
    output = CliRunner().invoke(main, ["check", str(write(SNEAKY))]).output
    assert "it changes the simulation that it asks" in output
    assert "Set settles = True" in output
