"""How this process was started: alone, or by torchrun as one of several that train together."""

import os
import socket
from hashlib import sha256
from typing import NamedTuple, Self

from neurosim.base.errors import ConfigurationError


class Launch(NamedTuple):
    """This process is ``rank`` of ``size``, and ``local`` of ``here`` on this machine.

    ``job`` is the same in all ``restarts`` of one torchrun; empty without torchrun. Processes wait
    so many ``seconds`` for each other, which the variable NEUROSIM_TIMEOUT says.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    here: int = 1
    restarts: int = 0
    seconds: int = 600
    job: str = ""

    @classmethod
    def read(cls) -> Self:
        """Reads the variables of torchrun. Raises ConfigurationError for what are no numbers."""
        if "RANK" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        defaults = ("0", "1", "0", "1", "0", "600")
        said = [*names, "TORCHELASTIC_RESTART_COUNT", "NEUROSIM_TIMEOUT"]
        try:
            numbers = [int(os.environ.get(n, d)) for n, d in zip(said, defaults, strict=True)]
        except ValueError:
            found = ", ".join(f"{name}={os.environ.get(name)}" for name in said)
            raise ConfigurationError(f"torchrun needs these to be whole numbers: {found}") from None
        job = os.environ.get("TORCHELASTIC_RUN_ID", "")
        if job == "none":  # nobody has named it; its processes have one parent
            job = sha256(f"{socket.gethostname()} {os.getppid()}".encode()).hexdigest()[:12]
        return cls(*numbers, job=job)  # type: ignore[misc, arg-type]


def leads() -> bool:
    """Returns whether this process is the one that writes, and tells the user."""
    return Launch.read().rank == 0
