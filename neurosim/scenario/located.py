"""Errors of the program, with a line of the scenario."""

from collections.abc import Iterator
from contextlib import contextmanager

from neurosim.base import DocumentError, NeurosimError
from neurosim.documents import Document, NodePath

# Where a scenario has the options of a simulation.
OPTIONS: dict[NodePath, NodePath] = {
    ("loss",): ("loss",),
    ("init",): ("init",),
    ("nudge_after",): ("nudge_after",),
    ("learn_every",): ("plasticity", "every"),
    ("probes",): ("probes",),
    ("device",): ("device",),
    ("precision",): ("precision",),
}


@contextmanager
def located(document: Document, path: NodePath) -> Iterator[None]:
    """Gives an error of the program's own a line in the document: that of the option at fault."""
    try:
        yield
    except DocumentError:
        raise
    except NeurosimError as error:
        option: NodePath = getattr(error, "option", getattr(error, "place", ()))
        path = OPTIONS.get(option, (*path, *option))
        raise DocumentError([document.problem(path, str(error))]) from None
