"""Where the populations of a network are, if one device is too small for all of them."""

from collections.abc import Mapping

import torch

from neurosim.base import ConfigurationError, unknown
from neurosim.network.network import Network
from neurosim.tensors import resolve_device

REST = "rest"


def groups_of(network: Network, names: Mapping[str, object]) -> dict[str, str]:
    """Returns for each population by which of the ``names`` it is meant, if by any: its own, that
    of a range ``a..b`` in the order of the network's populations, or ``rest``, which is all others.

    Raises ConfigurationError for unknown populations, and for one that is meant twice.
    """
    order = [population.name for population in network.populations]
    found: dict[str, str] = {}
    for name in names:
        first, dots, last = name.partition("..")
        ends = [] if name == REST else [first, last] if dots else [first]
        problem = ""
        for end in ends:
            problem = problem or (unknown("population", end, order) if end not in order else "")
        if name == REST and REST in order:
            problem = f"a population is named {REST!r}, which stands for all others: rename it"
        elif not problem and ends:
            low, high = order.index(ends[0]), order.index(ends[-1])
            problem = "" if low <= high else f"{last!r} comes before {first!r} in the network"
            for population in order[low : high + 1]:
                if population in found:
                    by = f"by {found[population]!r} and by {name!r}"
                    problem = problem or f"the population {population!r} is placed twice, {by}"
                found[population] = name
        if problem:
            raise ConfigurationError(problem, ("devices", name))
    others = dict.fromkeys((name for name in order if name not in found), REST)
    return found | (others if REST in names else {})


def placed(
    network: Network, device: str | torch.device, devices: Mapping[str, str | torch.device]
) -> tuple[torch.device, dict[str, torch.device]]:
    """Returns the ``device``, and that of each population: see `groups_of`; ``device`` is that of
    those who are not meant, and on "meta" of all.

    Raises ConfigurationError for what is wrong with the names, or a device that is not here.
    """
    usual, groups, there = resolve_device(device), groups_of(network, devices), {}
    for name, one in devices.items():
        try:
            there[name] = usual if usual.type == "meta" else resolve_device(one)
        except ConfigurationError as error:
            raise ConfigurationError(f"of {name!r}: {error}", ("devices", name)) from None
    order = [population.name for population in network.populations]
    return usual, {name: there.get(groups.get(name, ""), usual) for name in order}
