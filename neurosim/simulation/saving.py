"""Simulations as data: saved, continued in another of the same kind, and copied whole."""

from collections.abc import Mapping
from operator import index
from typing import Any, TypeVar

import torch

from neurosim.base import StateError
from neurosim.measures import Trace
from neurosim.schedules import Start
from neurosim.simulation import compatibility
from neurosim.simulation.common import Common
from neurosim.simulation.compatibility import undisturbed
from neurosim.simulation.inference import Inference
from neurosim.simulation.parts import parts_of
from neurosim.tensors import Copier, check_arrays, complete, load_arrays

STATE_VERSION = 10
T = TypeVar("T", bound=Inference)


def _identity(simulation: Common) -> tuple[str, str, int]:
    """Returns (schedule, rule, units): what a saved state and a simulation have to share."""
    schedule, rule = (type(part).__name__ for part in (simulation.schedule, simulation.rule))
    return schedule, rule, simulation.layout.total


@undisturbed()
def save(
    simulation: Common, inference: Inference | None, *, stream: bool = False
) -> dict[str, Any]:
    """Returns what `Simulation.state_dict` does. Raises StateError where the inference is that of a
    stream, whose state is more."""
    if inference is not None and inference.endless and not stream:
        raise StateError("a stream is under way, whose state is more: use stream.state()")
    schedule, rule, units = _identity(simulation)
    own = {"version": STATE_VERSION, "schedule": schedule, "rule": rule, "units": units}
    own |= {"inferences": simulation.inferences, "random": simulation.random.bit_generator.state}
    if inference is None or inference.failed:
        return own | {"clock": None}
    inference.check_weights()  # who loads this takes the weights as seen
    return own | inference.state_dict()


def check(
    simulation: Common,
    state: dict[str, Any],
    optimizer: torch.optim.Optimizer | None,
    *,
    stream: bool = False,
) -> None:
    """Raises StateError where a saved state is of another version, network, rule or schedule, and
    ConfigurationError for an optimizer that the simulation cannot go on with."""
    compatibility.check_optimizer(optimizer, simulation.model)
    compatibility.check_within(optimizer, simulation.learns_within)
    if not isinstance(state, Mapping):
        raise StateError(f"the saved state is what state_dict returned, not {type(state).__name__}")
    with complete("state"):
        problem, version = "", state["version"]
        own = _identity(simulation)
        if ("stream" in state) != stream:
            problem = "of a stream; Stream.from_state goes on with it"
            problem = problem if "stream" in state else "of an inference, not of a stream"
        elif version != STATE_VERSION:
            problem = f"in format {version} of another version of neurosim; this one reads "
            problem += f"{STATE_VERSION}: continue with the other, or start anew"
        elif (saved := tuple(state[k] for k in ("schedule", "rule", "units"))) != own:
            problem = f"of (schedule, rule, units) {saved}; this simulation has {own}"
        if problem:
            raise StateError(f"the saved state is {problem}")


def load(
    simulation: Common,
    state: dict[str, Any],
    optimizer: torch.optim.Optimizer | None,
    kind: type[T],
) -> T | None:
    """Continues where `save` was called, and returns the inference of then, of that ``kind``."""
    with complete("state"):
        simulation.inferences = index(state["inferences"])
        simulation.random.bit_generator.state = state["random"]
        if state["clock"] is None:
            return None
        return _restored(simulation, state, optimizer, kind)


def _restored(
    common: Common, saved: dict[str, Any], optimizer: torch.optim.Optimizer | None, kind: type[T]
) -> T:
    """Returns the inference that `Inference.state_dict` was taken of, in the simulation's own
    state. Raises StateError, KeyError or ValueError where it does not go with the simulation."""
    state, number, tick = common.state, saved["number"], int(saved["tick"])
    state.check_saved(saved["state"])
    copied = Copier(state.device)
    start = Start(common.layout, tick, common.init == "feedforward", common.random)
    clock = common.schedule.restore(start, saved["clock"])
    target = copied(saved["nudge"]["target"])
    inference = kind(common, clock, target, number=number, tick=tick, optimizer=optimizer)
    load_arrays(inference, saved, copied)
    inference.nudge.gradient = copied(saved["nudge"]["gradient"])
    dtypes = common.model.dtype, common.rule.state_dtype(common.model.dtype)
    check_arrays(inference, state.batch, dtypes)
    state.check_outputs(dtypes, target, inference.nudge.gradient, inference.prediction)
    state.mark_weights_seen()
    inference.trace = Trace(saved["trace"])
    inference.decide_nudge()
    return inference


def reduce(simulation: Common, inference: Inference | None) -> tuple[Any, ...]:
    """Returns what `copy` and `pickle` make a simulation of: its parts and its state.

    Raises StateError within an inference that has an optimizer.
    """
    if inference is not None and inference.learns:
        raise StateError(
            "an inference with an optimizer is under way, which a copy would not have: copy the "
            "simulation after finish(), or use state_dict()"
        )
    made_of = simulation.model, parts_of(simulation)
    return _copied, (type(simulation), *made_of, save(simulation, inference), simulation.caching)


@undisturbed()
def _copied(made: type[Any], model: Any, parts: Any, state: Any, caching: bool) -> Any:
    simulation = made(model, **parts)
    simulation.load_state_dict(state)
    simulation.caching = caching
    return simulation
