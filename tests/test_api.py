"""The public interface, and the rules that the source keeps: floors, imports, nothing unsafe."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

import neurosim
from neurosim.families.kinds import FAMILIES

PACKAGE = Path(neurosim.__file__).parent
PUBLIC = [
    "Activation",
    "Aim",
    "Augmentation",
    "BackPropagation",
    "Channel",
    "Channels",
    "Clip",
    "ConfigurationError",
    "ContrastiveHebbian",
    "Convergence",
    "CoupledLearning",
    "Dask",
    "DataError",
    "DataSource",
    "DifferenceTargetPropagation",
    "Distribution",
    "DivergenceError",
    "DocumentError",
    "Drift",
    "DualPropagation",
    "EarlyStopping",
    "Effect",
    "EndEvent",
    "EpochEvent",
    "EquilibriumPropagation",
    "EvaluationEvent",
    "Exponential",
    "Faults",
    "Feedback",
    "FixedPoint",
    "HolomorphicEP",
    "Initialization",
    "Inline",
    "InputError",
    "LPOM",
    "LearningRate",
    "Listener",
    "ListenerChoice",
    "Local",
    "LocalJacobian",
    "Loss",
    "MLflow",
    "Metric",
    "Model",
    "Network",
    "NetworkError",
    "NeurosimError",
    "NeurosimWarning",
    "Noise",
    "Operator",
    "OptimizerChoice",
    "Outcome",
    "Plasticity",
    "PluginError",
    "Population",
    "Prediction",
    "Probe",
    "Projection",
    "Quantize",
    "Rule",
    "Run",
    "Sample",
    "Scenario",
    "Schedule",
    "Simulation",
    "Source",
    "Standardization",
    "StartEvent",
    "StateError",
    "States",
    "StatesFile",
    "StepEvent",
    "Stop",
    "Stream",
    "StreamPlan",
    "StreamTrainer",
    "SweepResults",
    "Target",
    "TensorBoard",
    "TorchData",
    "Trace",
    "TraceEvent",
    "Trainer",
    "TrainingEvent",
    "TrainingPlan",
    "Uniform",
    "Unit",
    "WeightsAndBiases",
    "__version__",
    "compare",
    "figures",
    "fixed_point",
    "load_run",
    "load_sweep",
    "measure_convergence",
    "metrics",
    "register",
    "resume",
    "run",
    "schedules",
    "sweep",
]
SCHEDULES = [
    "Clock",
    "Lazy",
    "Parallel",
    "Periodic",
    "Poisson",
    "RandomOrder",
    "Replay",
    "Schedule",
    "Start",
    "Sweep",
]

# The house: a folder may import those of the lines above its own, and of its own line none.
ORDER = """
base
families compiled
documents tensors records data
maths
network
rules schedules channels reports
dynamics
measures
simulation
learning convergence
scenario
runs
tables bench conformance
cli
"""
LINES = [line.split() for line in ORDER.split("\n") if line]
BELOW = {
    folder: {"base"}.union(*LINES[:number]) for number, line in enumerate(LINES) for folder in line
}
BELOW["reports"] = {
    "base",
    "documents",
    "records",
    "network",
}  # pages know nothing of what is simulated
WITHOUT_TORCH = ("base", "families", "compiled", "documents", "records")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in SOURCES else node.module


# ---- what is exported --------------------------------------------------------------------------


def test_the_public_names() -> None:
    assert neurosim.__all__ == sorted(PUBLIC)
    assert dir(neurosim) == sorted(PUBLIC)
    assert set(dir(neurosim.schedules)) >= set(SCHEDULES)
    for name in PUBLIC:
        assert getattr(neurosim, name) is not None
    with pytest.raises(AttributeError, match="module 'neurosim' has no attribute 'Simulator'"):
        neurosim.Simulator  # noqa: B018


def test_the_star_import() -> None:
    names: dict[str, object] = {}
    exec("from neurosim import *", names)
    assert set(PUBLIC) <= set(names)


def test_every_public_name_has_a_docstring() -> None:
    found = [getattr(neurosim, name) for name in PUBLIC if name != "__version__"]
    found += [getattr(neurosim.schedules, name) for name in SCHEDULES]
    for thing in found:
        assert inspect.getdoc(thing), thing
        # A dataclass without one gets its signature, which says nothing.
        assert not (thing.__doc__ or "").startswith(f"{thing.__name__}("), thing


def test_every_public_method_has_a_docstring() -> None:
    """Or its property."""
    missing = []
    for name in PUBLIC:
        thing = getattr(neurosim, name)
        if not inspect.isclass(thing):
            continue
        for key, method in vars(thing).items():
            function = getattr(method, "__func__", method)
            says = inspect.isfunction(function) or isinstance(method, property)
            if says and not key.startswith("_") and not inspect.getdoc(getattr(thing, key)):
                missing.append(f"{name}.{key}")
    assert missing == []


def test_every_module_has_a_docstring() -> None:
    assert [n for n, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_errors_are_of_one_family() -> None:
    errors = [getattr(neurosim, name) for name in PUBLIC if name.endswith("Error")]
    assert len(errors) == 9
    assert all(issubclass(error, neurosim.NeurosimError) for error in errors)
    assert not issubclass(neurosim.NeurosimError, ValueError)


def test_the_version() -> None:
    assert neurosim.__version__.count(".") == 2


# ---- the house ---------------------------------------------------------------------------------


def folder_of(module: str) -> str:
    return module.split(".")[1]


INSIDE = {
    name: tree for name, tree in TREES.items() if name.count(".") and folder_of(name) in BELOW
}


def test_every_file_is_in_a_folder() -> None:
    outside = set(SOURCES) - set(INSIDE)
    assert outside == {"neurosim", "neurosim.__main__", "neurosim._version"}


def test_folders_import_what_is_below_them() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, tree in INSIDE.items()
        for other in imported(tree)
        if other.startswith("neurosim.") and other != "neurosim._version"
        if folder_of(other) not in {folder_of(name), *BELOW[folder_of(name)]}
    ]
    assert wrong == []


def test_inside_a_folder_nothing_goes_in_circles() -> None:
    graph = networkx.DiGraph(
        (name, other)
        for name, tree in INSIDE.items()
        for other in imported(tree)
        if other in INSIDE and other != name
    )
    assert list(networkx.simple_cycles(graph)) == []


def test_other_folders_come_through_the_door() -> None:
    """What is imported from another folder is a module of it, or a name in its ``__init__``."""
    wrong = []
    for name, tree in INSIDE.items():
        for node in ast.walk(tree):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if not module.startswith("neurosim.") or folder_of(module) in (
                folder_of(name),
                "_version",
            ):
                continue
            assert isinstance(node, ast.ImportFrom)
            wrong += [
                f"{name}: {module}.{alias.name}"
                for alias in node.names
                if f"{module}.{alias.name}" not in SOURCES and module.count(".") > 1
            ]
    assert wrong == []


def test_the_package_itself_imports_nothing_at_once() -> None:
    """All but the version is imported at first use."""
    at_once = {name for name in imported(TREES["neurosim"]) if name.startswith("neurosim")}
    assert at_once == {"neurosim._version"}


def test_a_new_file_is_enough() -> None:
    """Folders whose members are a family import all of their modules, see CONTRIBUTING.md."""
    assert neurosim.Scenario  # all families are there
    for family in FAMILIES.values():
        folder = SOURCES[family.base.__module__.rpartition(".")[0]]
        assert "gather(__name__)" in folder.read_text(encoding="utf-8"), folder


def test_the_first_floors_do_without_torch() -> None:
    for name, tree in INSIDE.items():
        if folder_of(name) in WITHOUT_TORCH:
            assert "torch" not in {other.split(".")[0] for other in imported(tree)}, name


def test_who_imports_simpy() -> None:
    users = {
        name
        for name, tree in TREES.items()
        if "simpy" in {other.split(".")[0] for other in imported(tree)}
    }
    assert "neurosim.simulation.engine" in users
    # The description of the machine has its version, the benchmark compares with it.
    others = {"neurosim.tensors.machine", "neurosim.bench.scheduling"}
    assert users <= {"neurosim.simulation.engine", *others}


@pytest.mark.parametrize("module", ["neurosim", "neurosim.cli.main", "neurosim.documents.document"])
def test_importing_does_not_import_torch(module: str) -> None:
    """A help text should not take seconds."""
    code = (
        f"import sys, {module}; "
        "print([m for m in ('torch', 'matplotlib', 'simpy', 'networkx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_command_line_answers_at_once(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom neurosim.cli.main import main\n"
        f"sys.argv = ['neurosim', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'numpy', 'pydantic'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "neurosim" in done.stdout


# ---- nothing unsafe ----------------------------------------------------------------------------

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint", "print"}
FORBIDDEN_ATTRIBUTES = {
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "full_load"),
    ("yaml", "unsafe_load"),
    ("yaml", "UnsafeLoader"),
    ("yaml", "FullLoader"),
    ("yaml", "Loader"),
    ("torch", "load"),
    ("torch", "manual_seed"),
    ("random", "seed"),
    ("os", "system"),
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_nothing_unsafe(name: str) -> None:
    """No code out of data, no global random generator, nothing printed but by the console."""
    tree = TREES[name]
    assert not {other.split(".")[0] for other in imported(tree)} & (FORBIDDEN_MODULES | {"random"})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_NAMES, node.lineno
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in FORBIDDEN_ATTRIBUTES, node.lineno
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_files_stay_short(name: str) -> None:
    """Under about 400 lines."""
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= 450
