"""Every public name, given what it is not made for: an error that says what is wanted.

That is an error of neurosim, or one of Python at the call itself, for what is missing or unknown.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosim as ns


class Odd:
    """Nothing in particular."""

    def __repr__(self) -> str:
        return "Odd()"


VALUES: tuple[Any, ...] = (
    *(None, [], "", {}, -1, float("nan"), True, b"x", Odd(), {"a": 1}, [None], (1, 2), "no such"),
    torch.zeros(2),
)
NETWORK = ns.Network.from_dict({"input": 3, "layers": [{"name": "h", "dense": 4}, {"dense": 2}]})
MODEL = ns.Model(NETWORK)
SPLIT = torch.zeros(2, 3), torch.tensor([0, 1])
# What stands for the other arguments that a call must have.
GOOD: dict[str, Any] = {
    "model": MODEL,
    "network": NETWORK,
    "x": torch.zeros(2, 3),
    "schedule": ns.schedules.Parallel(ticks=3),
    "simulation": ns.Simulation(MODEL, schedule=ns.schedules.Parallel(ticks=3)),
    "optimizer": "sgd",
    "train": SPLIT,
    "test": SPLIT,
}


def public() -> dict[str, Callable[..., Any]]:
    """The functions and classes, and what makes objects of the classes in another way."""
    found: dict[str, Callable[..., Any]] = {}
    for name in ns.__all__:
        one = getattr(ns, name)
        if not callable(one) or (inspect.isclass(one) and issubclass(one, BaseException)):
            continue
        found[name] = one
        for key, method in inspect.getmembers(one, inspect.ismethod):
            if not key.startswith("_"):
                found[f"{name}.{key}"] = method
    members = ns.schedules.Schedule.family.items()
    return found | {f"schedules.{name}": member for name, member in members}


def calls(name: str, function: Callable[..., Any]) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    parameters = inspect.signature(function).parameters.values()
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    for parameter in parameters:
        place = f"{name}({parameter.name})"
        for value in VALUES:
            others = {p.name: GOOD.get(p.name, value) for p in needed}
            if parameter.kind is parameter.VAR_POSITIONAL:
                yield place, (value,), others
            elif parameter.kind is parameter.VAR_KEYWORD:
                yield place, (), others | {"nonsense": value}
            else:
                yield place, (), others | {parameter.name: value}


@pytest.mark.parametrize("name", public())
def test_wrong_kinds_of_arguments(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function, wrong = public()[name], []
    for place, arguments, options in calls(name, function):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                function(*arguments, **options)
            except ns.NeurosimError:
                pass
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                if len(frames) > 1 and "unexpected keyword argument" not in str(error):
                    wrong.append(f"{place}: {options or arguments}: {error!r} in {frames[-1]}")
    assert not wrong, "\n".join(wrong)


def test_what_is_wanted_is_said() -> None:
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: ns.compare([]), r"give several runs one by one: \*runs"),  # type: ignore[arg-type]
        (lambda: ns.fixed_point(None, None), "model is None; it must be a Model"),  # type: ignore[arg-type]
        (lambda: ns.measure_convergence(3, None), "simulation is 3; it must be a Simulation"),  # type: ignore[arg-type]
        (lambda: ns.load_run(None), "folder is None; it must be"),  # type: ignore[arg-type]
        (lambda: ns.Network.from_yaml(7), "path is 7; it must be"),  # type: ignore[arg-type]
    ]
    for call, said in cases:
        with pytest.raises(ns.ConfigurationError, match=said):
            call()
