"""What a simulation is made of: to make another one, and to show it."""

from typing import Any

import torch

from neurosim.base import ConfigurationError, html_table
from neurosim.channels import Channels
from neurosim.dynamics import Plasticity
from neurosim.network import Faults
from neurosim.schedules import Schedule

# What is shown only where it is something else.
_USUAL: dict[str, Any] = {
    "init": "feedforward",
    "nudge_after": None,
    "stop": None,
    "channels": Channels(),
    "faults": Faults(),
    "plasticity": Plasticity.of("contrastive_hebbian"),
    "probes": (),
    "device": torch.device("cpu"),
    "devices": {},
    "compute": "auto",
    "precision": None,
    "processes": "population",
    "seed": 0,
}
_NAMES = ("rule", "loss", "schedule", *_USUAL)
# But for what every start reads anew; a schedule too, if its units and ticks are those there are.
_FIXED = {"model", *_NAMES} - {"init", "nudge_after", "stop"}


class Composed:
    """Base class of what is put together of its parts where it is made, which therefore stay."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FIXED and name in vars(self) and not self._fits(name, value):
            how = f"make another one, ns.Simulation(simulation.model, {name}=…, …)"
            raise ConfigurationError(f"the {name} of a simulation is built in: {how}", name)
        super().__setattr__(name, value)

    def _fits(self, name: str, value: object) -> bool:
        if name != "schedule" or not isinstance(value, Schedule):
            return False
        own: Schedule = vars(self)[name]
        return (value.unit, value.tick) == (own.unit, own.tick)


def parts_of(simulation: Any) -> dict[str, Any]:
    """Returns the arguments that make such a simulation of a model."""
    own = {key: getattr(simulation, key) for key in _NAMES}
    return own | {"nudge_after": None if simulation.rule.phases else simulation.nudge_after}


def _told(simulation: Any) -> dict[str, str]:
    own = {key: repr(value) for key, value in parts_of(simulation).items()}
    told = {key: said for key, said in own.items() if said != repr(_USUAL.get(key, ...))}
    if told.get("nudge_after") in ("0", str(simulation.model.network.depth)):
        del told["nudge_after"]  # what schedules have by themselves
    return told


def text_of(simulation: Any) -> str:
    """Returns the repr of a simulation: its model, and its parts but for defaults."""
    said = ", ".join(f"{key}={value}" for key, value in _told(simulation).items())
    return f"Simulation({simulation.model!r}, {said})"


def html_of(simulation: Any) -> str:
    """Returns the same for a notebook."""
    network: str = simulation.model.network._repr_html_()
    return network + html_table(_told(simulation).items())
