"""What Python is given: taken where it is clear, else refused in words. Copies; what is shown."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_process import state
from small_simulations import DOUBLE, NETWORK, SCHEDULES, X, Y, build, same
from torch import Tensor

import neurosim as ns

MODEL = ns.Model(NETWORK, **DOUBLE)
SWEEP = SCHEDULES["sweep"]
autocast = partial(torch.autocast, "cpu", torch.bfloat16)


def simulation(**options: Any) -> ns.Simulation:
    return ns.Simulation(**{"model": MODEL, "schedule": SWEEP} | options)


def test_lists_are_taken_within_mappings_too() -> None:
    chosen = ns.Probe("states", dyads={"h1": [0, np.int64(5)]}, weights={"h1.weight": [7]})
    assert chosen == ns.Probe("states", dyads={"h1": (0, 5)}, weights={"h1.weight": (7,)})
    with pytest.raises(ns.ConfigurationError, match=r"dyads of 0 is -1; it must be at least 0"):
        ns.Probe("states", dyads={"h1": [-1]})


def started() -> ns.Simulation:
    within = simulation()
    within.start(X, Y)
    return within


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "poison"}, "unknown schedule 'poison'; did you mean 'poisson'"),
        ({"schedule": "lazy"}, r"the schedule .lazy. needs duration: use Lazy\(...\)"),
        ({"schedule": 3}, "the schedule must be a Schedule or one of"),
        ({"rule": "back_prop"}, "unknown rule 'back_prop'; did you mean 'backprop'"),
        ({"model": torch.nn.Sequential()}, r"ns.Model\(ns.Network.from_torch\(module\)\)"),
        ({"model": NETWORK}, r"give it ns.Model\(network\)"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"channels": "delay"}, r"channels must be made by ns.Channels\(...\), not 'delay'"),
        ({"faults": 0.1}, "ns.Faults"),
        ({"stop": 1e-3}, "ns.Stop"),
        ({"probes": ["residaul"]}, "did you mean 'residual'"),
    ],
)
def test_refuses_what_a_simulation_is_not_made_of(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        simulation(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ns.Model(NETWORK, seed=-1), "seed is -1"),
        (lambda: ns.Model(NETWORK, dtype="float64"), "dtype must be torch.float32"),
        (lambda: ns.Model(NETWORK, device="nonsense"), "device is 'nonsense'; it must be"),
        (lambda: ns.Model(torch.nn.Linear(2, 3)), "not of a Linear; see Network.from_torch"),
        (lambda: simulation().infer(X, Y, optimizer="adam"), "nothing says when"),
        (lambda: simulation(learn_every=2).infer(X, Y, optimizer="adam"), "one of torch.optim"),
        (lambda: simulation().learn(None), "one of torch.optim, .* not None"),  # type: ignore[arg-type]
        (lambda: simulation().twin(None), "number is None; it must be a whole number"),  # type: ignore[arg-type]
        (lambda: started().advance(-1), "ticks is -1; it must be at least 0"),
        (lambda: started().advance("all"), "ticks is 'all'; it must be a whole number"),  # type: ignore[arg-type]
        (lambda: simulation().infer(X).trace["residaul"], "unknown probe 'residaul'; did you mean"),
    ],
)
def test_refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("x", None, "a torch tensor or an array of numbers, not str"),
        (X.to("meta"), None, "on the device meta, and has no values"),
        (X.to_sparse(), None, r"is sparse .*to_dense"),
        (np.ma.masked_less(X.numpy(), 9.0), None, "input is masked"),
        (X, np.ma.masked_less(Y.numpy(), 9.0), "target is masked"),
        (X, torch.tensor([0, 1, 2, 0]), "label 2 at index 2 .*not in 0 … 1"),
        (X, torch.tensor([0, 1]), "4 inputs but 2 targets"),
        (X, torch.tensor([0.0, 1.0, 1.0, 0.0]), r"target has shape \[4\]; it must be \[B, 2\]"),
    ],
)
def test_refuses_an_input(x: Any, y: Any, message: str) -> None:
    with pytest.raises(ns.InputError, match=message):
        simulation().infer(x, y)


@pytest.mark.filterwarnings("ignore")  # torch says that these are beginnings, or the end
def test_refuses_tensors_of_other_forms() -> None:
    forms = {
        "nested": torch.nested.nested_tensor(list(X)),
        "quantized": torch.quantize_per_tensor(X.float(), 0.1, 0, torch.qint8),
    }
    for name, x in forms.items():
        with pytest.raises(ns.InputError, match=f"the input is {name}; use input"):
            simulation().infer(x)


@pytest.mark.parametrize("x", [None, "x", {}, X.to_sparse(), X[:, :1]])
def test_a_model_refuses_an_input(x: Any) -> None:
    with pytest.raises(ns.InputError, match=r"the input (must be a torch|is sparse|has shape)"):
        MODEL(x)


@pytest.mark.parametrize("key", ["nudge", "clock", "state", "phases"])
@pytest.mark.parametrize("value", [0, "x", []])
def test_refuses_a_saved_state_with_something_else_in_it(key: str, value: Any) -> None:
    state = started().state_dict()
    held = state if key in state else state["inference"]
    assert key in held
    held[key] = value
    with pytest.raises(ns.StateError, match=r"does not fit|has no|of another"):
        simulation().load_state_dict(state)


@pytest.mark.parametrize("value", ["", None, [1]])
def test_refuses_a_saved_state_with_no_number_where_one_is(value: Any) -> None:
    state = started().state_dict()
    state["counts"]["wakes"] = value
    with pytest.raises(ns.StateError, match=r"wakes: .* should be a valid integer"):
        simulation().load_state_dict(state)


def test_what_is_taken_as_it_is_meant() -> None:
    classes = torch.tensor([0, 1, 1, 0])
    wanted = simulation().infer(X, torch.eye(2, **DOUBLE)[classes])
    for x, y in (
        (X.numpy(), classes.numpy()),
        (X.tolist(), classes.tolist()),
        (X, classes.to(torch.uint8)),
    ):
        assert same(simulation(seed=np.int64(0), nudge_after=np.int32(0)).infer(x, y), wanted)
    assert simulation(schedule="parallel", rule="backprop").infer(X, classes).ticks > 0
    for predict in (simulation().predict, MODEL):
        assert torch.equal(predict(X.numpy()), predict(X))  # type: ignore[arg-type]
        assert predict(X.float()).dtype == torch.float64
    assert ns.Model(NETWORK)(X).dtype == torch.float32


@pytest.mark.parametrize("around", [nullcontext, torch.inference_mode, autocast])
def test_what_is_around_does_not_reach_in(around: Callable[[], Any]) -> None:
    """Of the third inference, which is a repetition, too."""
    one = simulation(model=ns.Model(NETWORK))
    other = simulation(model=ns.Model(NETWORK))
    for _ in range(3):
        wanted = one.infer(X, Y), one.gradients(), one.predict(X)
        with around():
            found = other.infer(X, Y), other.gradients(), other.predict(X)
        assert same(found[0], wanted[0])
        assert all(torch.equal(found[1][key], value) for key, value in wanted[1].items())
        assert torch.equal(found[2], wanted[2])


@pytest.mark.parametrize("around", [torch.inference_mode, autocast])
def test_nor_where_a_simulation_is_made_asked_and_copied(around: Callable[[], Any]) -> None:
    """Damping is of the weights as they are, and nothing is left there that is read only."""

    rule = ns.DualPropagation(variant="damped", alpha=0.25)

    def used(around: Callable[[], Any]) -> list[Tensor]:
        with around():
            one = simulation(model=ns.Model(NETWORK), rule=rule)
        one.start(X, Y)
        one.advance(2)
        for parameter in one.model.parameters():
            parameter.data.mul_(0.75)
        with around():
            one.weights_changed()
            objective = one.objective()
            again = copy.deepcopy(one)
        for it in (one, again):
            it.advance()
            it.finish()
            it.learn(torch.optim.SGD(it.model.parameters(), lr=0.1))
        states = [cell.plus.value for it in (one, again) for cell in it.state.cells]
        damping = [cell.damping for it in (one, again) for cell in it.state.cells]
        return [torch.tensor([objective, *damping]), *states, *one.model.parameters()]

    assert all(map(torch.equal, used(around), used(nullcontext)))


@pytest.mark.parametrize("around", [torch.inference_mode, autocast])
def test_nor_into_a_stream(around: Callable[[], Any]) -> None:
    def read(around: Callable[[], Any]) -> list[Tensor]:
        stream = simulation(model=ns.Model(NETWORK)).stream()
        stream.push(X)
        stream.advance(3)
        with around():
            found, state = stream.read(), stream.state()
        stream.load(state)
        stream.advance(3)
        return [found, stream.read()]

    assert all(map(torch.equal, read(around), read(nullcontext)))
    assert not any(tensor.is_inference() for tensor in read(torch.inference_mode))


def test_a_model_that_is_made_in_inference_mode_learns() -> None:
    with torch.inference_mode():
        inside = simulation(model=ns.Model(NETWORK))
        inside.infer(X * 1, Y * 1)
    inside.learn(torch.optim.SGD(inside.model.parameters(), lr=0.1))
    assert not torch.equal(inside.model(X), ns.Model(NETWORK)(X))


def test_parameters_that_are_not_those_of_the_network() -> None:
    network = ns.Network.from_dict({"input": 5, "layers": [{"dense": 5}, {"dense": 5}]})
    tied, made_of_others = ns.Model(network), ns.Model(network)
    one, other = (name for name, p in tied.named_parameters() if p.shape == (5, 5))
    tied.get_submodule(other.rsplit(".", 1)[0]).weight = tied.get_parameter(one)
    with pytest.raises(ns.ConfigurationError, match=f"{one!r} and {other!r} .* are one parameter"):
        simulation(model=tied)
    owner = made_of_others.get_submodule(one.rsplit(".", 1)[0])
    torch.nn.utils.parametrizations.weight_norm(owner)
    with pytest.raises(ns.ConfigurationError, match=f"no parameter {one!r} any more"):
        simulation(model=made_of_others)
    torch.nn.utils.parametrize.remove_parametrizations(owner, "weight")
    assert simulation(model=made_of_others).infer(torch.ones(1, 5)).ticks


def test_a_network_of_numbers_of_numpy() -> None:
    def described(number: Callable[[int], Any], array: Callable[[list[int]], Any]) -> ns.Network:
        layers = [{"name": "output", "dense": number(3)}]
        return ns.Network.from_dict({"input": array([6]), "layers": layers})

    assert str(described(np.int64, np.array)) == str(described(int, list))


def test_refuses_a_state_that_is_none() -> None:
    with pytest.raises(ns.StateError, match="what state_dict returned, not NoneType"):
        simulation().load_state_dict(None)  # type: ignore[arg-type]


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
@pytest.mark.parametrize("name", ["sweep", "poisson", "lazy"])
def test_a_copy_goes_on_as_the_original_does(name: str, again: Any) -> None:
    """From within an inference, with states carried over, and apart from each other."""
    delays = ns.Channels(mean=ns.Channel(delay=ns.Uniform(0.0, 2.0), noise=0.1))
    options: dict[str, Any] = {"init": "carry", "probes": ["residual"], "channels": delays}
    original = build(SCHEDULES[name], ns.Model(NETWORK, **DOUBLE), **options)
    original.infer(X, Y)
    original.start(X, Y)
    original.advance(3)
    other = again(original)
    ends = []
    for one in (original, other):
        one.advance()
        ends.append(one.finish())
        one.learn(torch.optim.SGD(one.model.parameters(), lr=0.1))
        ends.append(one.infer(X, Y))
    assert same(ends[0], ends[2])
    assert same(ends[1], ends[3])
    assert ends[0].trace["residual"] == ends[2].trace["residual"]
    assert other.model is not original.model


def test_no_copy_within_an_inference_that_learns() -> None:
    one = build(SWEEP, ns.Model(NETWORK, **DOUBLE), learn_every=2)
    one.start(X, Y, optimizer=torch.optim.SGD(one.model.parameters(), lr=0.1))
    with pytest.raises(ns.StateError, match="copy the simulation after finish"):
        copy.deepcopy(one)
    one.advance()
    one.finish()
    assert copy.deepcopy(one).inference.done


# ---- what is shown -------------------------------------------------------------------------------


def test_what_is_shown() -> None:
    one = simulation(schedule="parallel", rule="backprop", seed=3, probes=["residual"])
    network = "Network(input [3] → a [6] tanh → b [5] tanh → out [2]; 71 parameters)"
    assert repr(NETWORK) == network
    assert repr(MODEL) == f"Model({network}, float64, cpu)"
    assert repr(one) == (
        f"Simulation({MODEL!r}, rule=BackPropagation(), loss=SquaredError(), "
        f"schedule={one.schedule!r}, probes=({one.probes[0]!r},), seed=3)"
    )
    outcome = one.infer(X, Y)
    assert repr(outcome).startswith(
        "Outcome(prediction=[4, 2], states={'a': [4, 6], 'b': [4, 5], 'out': [4, 2]}, ticks="
    )
    assert repr(outcome.trace).startswith("Trace(residual: ")
    for thing in (NETWORK, MODEL, one, outcome):
        html = thing._repr_html_()
        assert html.startswith("<table>")
        assert html.count("<tr>") == html.count("</tr>") > 2
    assert "Args:" in (ns.Simulation.infer.__doc__ or "")


# ---- a process of one's own ----------------------------------------------------------------------


def test_a_run_leaves_the_process_as_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(os, "umask", None)  # other threads may make files meanwhile
    before = state()
    file, short = root / "scenarios/parallel.yaml", ["training.max_steps=1", "data.limit=50"]
    seen: list[Any] = []

    class Look:
        def on_step(self, event: object) -> None:
            os.environ["NEUROSIM_TEST"] = "set by a library"
            seen.append(state())

    ns.run(file, [*short, "threads=2", "probes=[]"], out=tmp_path, listeners=[Look()])
    assert seen[0]["threads"] == 2
    assert seen[0]["flags"] == (False, True, False)
    assert state() == before
    with pytest.raises(ns.DocumentError):
        ns.run(file, {"loss": "nonsense"}, out=tmp_path)
    assert state() == before


def test_a_program_finds_its_process_as_it_was(root: Path, tmp_path: Path) -> None:
    script, scenario = Path(__file__).with_name("own_process.py"), root / "scenarios/parallel.yaml"
    command = [sys.executable, script, scenario, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (lambda rate: {"lr": 0.1}, r"OptimizerChoice\.of"),
        (lambda rate: {"clip": 1.0}, r"plasticity of the simulation has it: clip=ns\.Clip"),
        (lambda rate: {"learning_rate": rate}, r"give it as Trainer\(…, scheduler=…\)"),
    ],
    ids=["lr", "clip", "scheduler"],
)
def test_a_trainer_says_where_else_it_is_told(option: Callable[[Any], Any], said: str) -> None:
    optimizer = torch.optim.SGD(MODEL.parameters(), lr=0.1)
    rate = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ns.ConfigurationError, match=said):
        ns.Trainer(simulation(), optimizer, (X, Y), (X, Y), **option(rate))
