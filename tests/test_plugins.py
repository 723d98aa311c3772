"""Plugins: loading, what is in force, what a run that goes on asks for, and `neurosim check`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from click.testing import CliRunner

import neurosim as ns
from neurosim.base import PluginError, plugins
from neurosim.cli.main import main
from neurosim.conformance.worlds import FLAT, model_of
from neurosim.runs.executors.processes import run_all
from neurosim.schedules import Schedule

EXTRAS = Path(__file__).parent / "plugins" / "extras.py"
SCHEDULE = """
    from dataclasses import dataclass
    import numpy as np
    from neurosim.base import register
    from neurosim.schedules import Clock, Schedule

    class Every(Clock):
        def reschedule(self, tick, due):
            return np.full(len(due), tick + 1)

    @register("every")
    @dataclass(frozen=True)
    class EveryTick(Schedule):
        unit: str = "neuron"
        tick: float = 1.0
        ticks: int = 8

        def start(self, at):
            return Every(np.full(at.layout.total, at.tick + 1), at.tick + self.ticks)

        def restore(self, at, state):
            return Every(state["next"].numpy().copy(), state["end"])
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a plugin's file; what is loaded is forgotten again."""

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    before = set(sys.modules)
    yield write
    for module in [name for name in sys.modules if name not in before]:
        if module.startswith(("neurosim_plugin_", "my_plugin")):
            plugins.forget(module)


def checked(path: Path, code: int) -> str:
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


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
        "from neurosim.base import register\n\n@register('it')\nclass It:\n    pass\n",
        3,
        "It derives from none of ",
    ),
    "missing method": (SCHEDULE.replace("def restore", "def restored"), 11, "lacks restore"),
    "not frozen": (SCHEDULE.replace("(frozen=True)", ""), 11, "must be a frozen dataclass"),
    "taken": (SCHEDULE.replace('"every"', '"lazy"'), 11, "'lazy' exists already \\(.*lazy.py:"),
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


def members_there(task: tuple[str, ...]) -> str | None:
    """Work for another process."""
    return f"{task[0]}: {', '.join(member.kind for member in plugins.members_of())}"


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


# ---- neurosim check ------------------------------------------------------------------------------


def test_the_extras_conform() -> None:
    try:
        output = checked(EXTRAS, 0)
    finally:
        plugins.forget(plugins.load(EXTRAS))
    assert "schedule coin\n  ✓ written in a document\n" in output
    assert output.endswith("checks, none failed\n")


FAILING = {
    "draws elsewhere": (
        "np.full(len(due), tick + 1)",
        "tick + np.random.default_rng().integers(1, 4, len(due))",
        "the same seed gives other wakes",
        "Draw from the generator that you are given",
    ),
    "the wrong shape": (
        "np.full(len(due), tick + 1)",
        "np.full(len(due) + 1, tick + 1)",
        "ValueError: shape mismatch",
        "See",
    ),
    "forgets": (
        'Every(state["next"].numpy().copy()',
        "Every(np.full(at.layout.total, at.tick + 3)",
        "goes on in another way",
        "Save all that changes in state_dict",
    ),
    "never wakes": (
        "at.tick + 1), at.tick",
        "at.tick + 1) + 99 * (at.layout.population_of == 1), at.tick",
        "the population 'h2' never wakes",
        "Start every unit with a wake",
    ),
    "the past": (
        "np.full(len(due), tick + 1)",
        "np.full(len(due), tick)",
        "was passed over",
        "must be ticks that are still to come",
    ),
    "no example": ("ticks: int = 8", "ticks: int", "there is no example", "a classmethod example"),
}


@pytest.mark.parametrize("failing", list(FAILING))
def test_what_fails_and_how_to_mend_it(write: Write, failing: str) -> None:
    before, after, what, mend = FAILING[failing]
    text = SCHEDULE.replace(before, after)
    assert text != SCHEDULE
    if failing == "no example":  # a field without a default comes first
        text = text.replace("ticks: int", "").replace("unit: str", "ticks: int\n        unit: str")
    path = write(text)
    output = checked(path, 1)
    assert f"{path}:" in output
    assert what in output
    assert mend in output
    assert re.search(r"checks, [1-9]\d* failed\n$", output)


# What is replaced in the extras, and what is said of it.
SPOILED = {
    "activation of another dtype": (
        "threshold=50.0)",
        "threshold=50.0).double()",
        "f(a) of torch.float32 is torch.float64",
        "Keep the dtype",
    ),
    "activation over all dyads": (
        "return torch.nn.functional.softplus(potential",
        "return torch.nn.functional.softplus(potential - potential.mean()",
        "f(a) of some values is not that of all",
        "Act on each alone",
    ),
    "derivative": (
        '@register("hinge")',
        'Softplus.backward = lambda self, potential, state, apical: apical\n\n@register("hinge")',
        "backward is f'(a) Δ\n",
        "Leave the closed form out, or mend it",
    ),
    "mean over the batch": (
        ".flatten(1).sum(1)",
        ".flatten(1).sum(1).mean().expand(len(target))",
        "value is not (B,), or a sample's loss depends on the others",
        "Sum over the outputs of each sample",
    ),
    "gradient": (
        "    margin: Positive = 1.0\n",
        "    margin: Positive = 1.0\n    gradient = lambda self, y, target: y - target\n",
        "gradient is not that of value",
        "Leave the closed form out, or mend it",
    ),
    "effect that draws elsewhere": (
        'parcel.normal(draws, "how")',
        "torch.randn_like(parcel.values)",
        "the same message becomes another one",
        "Draw from the generator that you are given",
    ),
    "effect that draws for the selected alone": (
        'parcel.normal(draws, "how")',
        'draws.normal("how", parcel.moment, parcel.values.shape, parcel.values.dtype)',
        "some neurons get other values",
        "Draw by Parcel.uniform and Parcel.normal",
    ),
    "effect of another shape": (
        "parcel.values = torch.where(burst, parcel.values * factor, parcel.values)",
        "parcel.values = (parcel.values * factor)[:1]",
        "it changes the shape or dtype",
        "Keep both as they are",
    ),
    "effect that moves zero": (
        "parcel.values * factor",
        "parcel.values + factor",
        "0 becomes another value",
        "Leave moves_zero out",
    ),
    "probe that writes": (
        "cell.plus.value.abs()",
        "cell.plus.value.mul_(1.5).abs()",
        "with the probe, plus is another",
        "Read the state, never write",
    ),
    "probe that records tensors": (
        "float(cell.plus.value.abs().max())",
        "cell.plus.value.abs().max()",
        "a record is not what is read again (Object of type Tensor is not JSON serializable)",
        "Record numbers, text, lists and mappings",
    ),
    "not local": (
        "* prediction)",
        "* prediction.softmax(1))",
        "local: a gradient depends on its own output alone\n",
        "Set local = False",
    ),
}


@pytest.mark.parametrize("spoiled", list(SPOILED))
def test_spoiled_extras(write: Write, spoiled: str) -> None:
    before, after, what, mend = SPOILED[spoiled]
    text = EXTRAS.read_text(encoding="utf-8")
    assert before in text
    path = write(text.replace(before, after))
    output = checked(path, 1)
    assert f"    {path}:" in output
    assert what in output
    assert mend in output
    assert "1 failed" in output


OPERATOR = """
    from dataclasses import dataclass
    import torch
    from neurosim.base import register
    from neurosim.maths import Operator

    @register("shifted")
    @dataclass(frozen=True)
    class Shifted(Operator):
        def forward(self, mean, weight):
            return mean.roll(1, -1)

        def adjoint(self, difference, weight):
            return difference.roll(-1, -1)
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "", "10 checks, none failed"),
        ("roll(-1, -1)", "roll(1, -1)", "Let adjoint be the transpose of forward"),
        ("return mean.", "return mean[..., 1:].", "adjoint gives"),
        (
            "def adjoint",
            "def forward_reach(self, sent):\n            return sent\n\n        def adjoint",
            "forward_reach is wrong",
        ),
    ],
)
def test_operators(write: Write, before: str, after: str, said: str) -> None:
    """The other half of an operator follows from the two methods that it has."""
    path = write(OPERATOR.replace(before, after))
    assert said in checked(path, 1 if before else 0)


def test_a_plugin_that_registers_nothing(write: Write) -> None:
    path = write("import numpy\n")
    output = checked(path, 2)
    assert output.startswith(f"error: {path}:1: it registers nothing")
