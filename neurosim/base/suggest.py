"""What the user may have meant: suggestions for words that are not known."""

import difflib
from collections.abc import Iterable

# What other programs and papers call what some family here calls otherwise.
_ELSEWHERE = {
    "linear": "identity", "none": "identity", "swish": "silu", "logistic": "sigmoid",
    "bp": "backprop", "backpropagation": "backprop", "dp": "dual_propagation",
    "ep": "equilibrium_propagation", "dtp": "difference_target_propagation",
    "mse": "squared_error", "l2": "squared_error", "ce": "cross_entropy", "nll": "cross_entropy",
    "bce": "binary_cross_entropy", "tsv": "csv", "table": "csv", "excel": "csv", "pandas": "csv",
    "folder": "images", "imagefolder": "images", "arrays": "npz", "numpy": "npz", "mat": "npz",
    "hdf5": "npz", "dataloader": "torch", "top5": "top_k", "sync": "parallel",
    "synchronous": "parallel", "async": "poisson", "asynchronous": "poisson",
}  # fmt: skip


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Says ``unknown population 'h3'; did you mean 'h2'?``, or lists what is known."""
    names = list(known)
    hint = did_you_mean(name, names) or f"; it is one of {', '.join(names)}"
    return f"unknown {what} {name!r}{hint}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the one of the ``known`` words that ``word`` may mean or be a slip for."""
    folded = {name.casefold(): name for name in known}
    if (meant := _ELSEWHERE.get(word.casefold().replace("-", ""))) in folded:
        return folded[meant]
    cutoff = 0.6 if len(word) > 2 else 0.5  # h3 for h2 is one slip
    # A bound on the length: the comparison takes quadratic time.
    close = difflib.get_close_matches(word[:100].casefold(), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Says ``; did you mean 'x'?`` of the nearest of the ``known`` words, or nothing."""
    close = nearest(word, known)
    return f"; did you mean {close!r}?" if close else ""


def shorten(text: str, length: int = 40) -> str:
    """Returns ``text`` in quotes, with its middle left out if it is long."""
    return repr(text if len(text) <= length else f"{text[: length - 10]}…{text[-9:]}")
