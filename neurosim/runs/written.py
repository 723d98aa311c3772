"""What a training that was put together in Python consists of, as text."""

from pathlib import Path
from typing import Any

from neurosim import documents
from neurosim.base import DataError
from neurosim.families import described, plugins
from neurosim.learning import Trainer
from neurosim.runs.folder import Job

_HEAD = "# Put together in Python by a Trainer: this says what it was, and nothing runs it.\n"
_PROLONGED = "epochs", "max_steps"  # of a training, which may go on for longer


def job_of(name: str, trainer: Trainer) -> Job:
    """Returns the run of a training, with its parts as YAML in place of a scenario."""
    return Job(name, _text(_parts(name, trainer)), trainer.model.network)


def _parts(name: str, trainer: Trainer) -> dict[str, Any]:
    simulation, optimizer = trainer.simulation, trainer.optimizer
    parts = "rule loss init schedule nudge_after stop channels faults plasticity probes precision"
    graph = ("populations", "projections")
    return {
        "name": name,
        "network": {key: described(getattr(trainer.model.network, key)) for key in graph},
        "data": {"train": len(trainer.train), "test": len(trainer.test)},
        **{key: described(getattr(simulation, key)) for key in parts.split()},
        "optimizer": {
            "name": type(optimizer).__name__,
            **{key: _plain(value) for key, value in optimizer.defaults.items()},
        },
        "training": described(trainer.plan),
        "scheduler": trainer.rates.scheduler,
        "seed": simulation.seed,
        "dtype": str(trainer.model.dtype).removeprefix("torch."),
        "processes": simulation.processes,
    }


def _text(parts: dict[str, Any]) -> str:
    return _HEAD + plugins.comment() + documents.dumps(parts)


def _plain(value: Any) -> Any:
    """A value as a document holds it, or its text."""
    value = described(value)
    return value if isinstance(value, bool | int | float | str | list | None) else str(value)


def check_trainer(file: Path, trainer: Trainer | None, how: str = "resume(folder, trainer)") -> str:
    """Returns the name of a run that was put together in Python, or "" of another one.

    Raises:
        DataError: where the run cannot be continued with this trainer, or without one. It may train
            for longer.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    if not text.startswith(_HEAD):
        if trainer is not None:
            raise DataError(f"{file}: made of a scenario: resume it without a trainer")
        return ""
    if trainer is None:
        raise DataError(f"{file}: made of a Trainer in Python; use {how}")
    was = documents.loads(text, str(file)).value
    name = str(was["name"])
    parts = _parts(name, trainer)
    before = was.get("training")
    if isinstance(before, dict):
        parts["training"] |= {key: before[key] for key in _PROLONGED if key in before}
    if (mine := _text(parts)) != text:
        pairs = zip(text.splitlines(), mine.splitlines(), strict=False)
        line, (before, now) = next(
            (n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1]
        )
        raise DataError(
            f"{file}:{line}: the run was {before.strip()!r}, but the trainer is {now.strip()!r}: "
            "build it as it was; for longer, with more epochs"
        )
    return name
