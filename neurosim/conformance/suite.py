"""The checks of each family, and how they are carried out."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from neurosim.base import NeurosimError
from neurosim.conformance import members, running
from neurosim.conformance.checks import Check, ConformanceFailure, Named, same
from neurosim.families import Kind, build, described, kinds, model_of, plugins

_CHECKS: Mapping[str, Callable[[Any], Named]] = {
    "activation": members.of_activation,
    "initialization": members.of_initialization,
    "metric": members.of_metric,
    "loss": members.of_loss,
    "operator": members.of_operator,
    "data": members.of_data,
    "augmentation": members.of_augmentation,
    "standardization": members.of_standardization,
    "optimizer": members.of_optimizer,
    "learning_rate": members.of_rate,
    "listener": members.of_listener,
    "schedule": running.of_schedule,
    "rule": running.of_rule,
    "feedback": running.of_feedback,
    "plasticity": running.of_plasticity,
    "prediction": running.of_prediction,
    "effect": running.of_effect,
    "distribution": running.of_distribution,
    "probe": running.of_probe,
}


def examples_of(member: type[Kind]) -> Sequence[Kind]:
    """Returns the instances that are checked: what the class's own ``example()`` returns (one, or
    several), or else one of default values.

    Raises:
        ConformanceFailure: where there is none.
    """
    try:
        made: Any = getattr(member, "example", member)()
    except (NeurosimError, TypeError) as error:
        what = f"{kinds.where(member)}: there is no example of it: {error}"
        mend = "Give each field a default, or the class a classmethod example() that returns some"
        raise ConformanceFailure(what, mend) from None
    return made if isinstance(made, list | tuple) else [made]


def checks_of(member: type[Kind], examples: Sequence[Kind] | None = None) -> list[Check]:
    """Returns the checks of a member of a family, of each of its examples, in an order in which one
    builds on another: where one fails, those that follow may say nothing."""
    found = []
    for example in examples_of(member) if examples is None else examples:
        found.append(Check("written in a document", example, partial(_written, example)))
        of_family = _CHECKS.get(example.family.title, lambda example: ())
        found += [Check(name, example, run) for name, run in of_family(example)]
    return found


def attempt(check: Check) -> ConformanceFailure | None:
    """Carries out a check. Returns what failed, an error that was raised included, and where."""
    where = kinds.where(type(check.example))
    try:
        check.run()
    except ConformanceFailure as failure:
        return ConformanceFailure(f"{where}: {failure.what}", failure.mend)
    except Exception as error:
        return ConformanceFailure(str(plugins.fault(error, where)), f"See {check.name!r}")
    return None


def _written(example: Kind) -> None:
    """What a document says of it makes it again."""
    said: Any = described(example)
    member: Any = type(example)
    whole = said if isinstance(said, dict) else {example.family.key: said}
    section = model_of(member).model_validate_json(json.dumps(whole))
    if member.given:  # a document does not say all of it
        return
    mend = "Let every field keep what it was given"
    same(described(build(section)), said, "a document makes another one of it", mend)
