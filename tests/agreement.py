"""Compares neurosim with vectors that other people's code has made, and writes the page of it.

    python -m tests.agreement tests/data ../shared/golden/peers > docs/results/agreement.md

How a file is compared, and how well it has to agree, says the entry of `PEERS` that its name begins
with.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.peers import (
    Found,
    dp23,
    dp24,
    dtp,
    ebl,
    hep,
    learning_rates,
    lpom,
    read,
    training,
    winners_at_plus,
)


class Peer(NamedTuple):
    """A published program, and how a file of its numbers is compared.

    ``within``: how well what has ``where`` in its name has to agree, and for what ``reason``, all
    else to 1e-12. ``unused``: the arrays that nothing of ours is compared with.
    """

    name: str
    compare: Callable[..., Found]
    within: float = 1e-12
    reason: str = ""
    where: str = ""
    unused: str = r"minus_0"  # the input, as plus_0

    def limit(self, what: str) -> float:
        return self.within if self.where in what else 1e-12


_DP24 = "Rasmuskh/dualprop_icml_2024 (Høier & Zach, ICML 2024): `infer_states_train`, `get_J`"
_EBL = "rain-neuromorphics/energy-based-learning: `EquilibriumProp`, `ContrastiveLearning`"
_UNSETTLED = "their phases end before they have come to rest"

# By the beginning of a file's name; the longest that fits.
PEERS = {
    "mlp": Peer(f"{_DP24}; fully connected", dp24),
    "cnn": Peer(f"{_DP24}; convolutions", dp24),
    "dp24": Peer(f"{_DP24}; more settings", dp24, unused="gamma"),  # sqrt(1 + 2 L)
    "dp24_winners_at_mean": Peer(f"{_DP24}, its winners at the mean", dp24),
    "differs_dp24": Peer(f"{_DP24}, its winners at s⁺ (here `winners: plus`)", winners_at_plus),
    "dp23": Peer(
        "Rasmuskh/Dual-Propagation (Høier, Staudt & Zach, ICML 2023): `relu_dualprop`", dp23
    ),
    "ebl_mlp": Peer(f"{_EBL}; fully connected", ebl),
    "ebl_conv": Peer(f"{_EBL}; convolutions with max-pooling", ebl, 1e-9, _UNSETTLED),
    "ebl_conv_synchronous": Peer(f"{_EBL}; all layers at once", ebl, 1e-9, _UNSETTLED),
    "hep": Peer(
        "Laborieux-Axel/holomorphic_eqprop: `xp_mlp` with tanh",
        hep,
        1e-9,
        _UNSETTLED,
        "N = 10",
        # Their back-propagation through time, and phases of four steps, after which their output
        # is read a tick before ours.
        "(true|short)_weight_.*",
    ),
    "dtp": Peer("ernoult/scalingDTP: `DTP.feedback_loss`, `forward_loss`", dtp),
    "lpom": Peer("`cnn_LPOM_ff`, which stands commented out in dualprop_icml_2024", lpom),
    "learning_rates": Peer(
        "optax 0.1.7: `warmup_cosine_decay_schedule`",
        learning_rates,
        1e-7,
        "their rates are float32",
    ),
    "training": Peer(
        "dualprop_icml_2024: `create_train_state`, `train_step`; the digits",
        training,
        1e-7,
        "their rates are float32",
    ),
}


def peer_of(path: Path) -> Peer:
    return PEERS[max((name for name in PEERS if path.stem.startswith(name)), key=len)]


def compared(path: Path, **options: Any) -> dict[str, float]:
    """Returns the worst difference of everything in a file. Raises AssertionError for an array that
    was left out without a reason."""
    peer, (arrays, meta) = peer_of(path), read(path)
    found = dict(peer.compare(arrays, meta, **options))
    left = [key for key in sorted(arrays.left) if not re.fullmatch(peer.unused, key)]
    assert not left, f"{path.name}: nothing was compared with {', '.join(left)}"
    return found


HEAD = """# Agreement with the code of the papers

Published implementations have made numbers, unchanged but for their precision (float64). This table
says how far what neurosim makes of the same weights, inputs and settings is from them. A difference
is relative to the largest value of its array. All agree to 1e-12, unless the last column says why
not. The first command writes this page, the second holds every file to its limit:

```shell
python -m tests.agreement tests/data ../shared/golden/peers > docs/results/agreement.md
python -m pytest tests/test_agreement.py
```

| made by | files | compared, with the worst difference | why not to round-off (and the limit) |
|---|---|---|---|
"""


def page(folders: Sequence[str]) -> str:
    """Returns the page: of each peer what was compared, and the worst difference of all files."""
    off: dict[Peer, dict[str, list[float]]] = {peer: {} for peer in PEERS.values()}
    for path in sorted(path for folder in folders for path in Path(folder).glob("*.npz")):
        for what, value in compared(path).items():
            off[peer_of(path)].setdefault(what, []).append(value)
    rows = []
    for peer, found in off.items():
        files = max(map(len, found.values()), default=0)
        worst = "; ".join(f"{what}: {max(values):.0e}" for what, values in found.items())
        reason = ": ".join(filter(None, [peer.where, peer.reason]))
        reason += f" ({peer.within:.0e})" if reason else ""
        rows.append(f"| {peer.name} | {files} | {worst} | {reason} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1:]))
