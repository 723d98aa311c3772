"""The passes of a wake at α = ½ of dyads that clip their potential, see `maths.fused`.

They do what torch does, in its order: `dyad.relax`, `dyad.mean` and `Activation.difference`.
"""

from typing import Any

import numpy as np

from neurosim.compiled.compiler import PIECE, compiled


@compiled
def _clipped(value: Any, least: Any, most: Any) -> Any:
    value = least if value < least else value
    return most if value > most else value


@compiled
def _difference(plus: Any, minus: Any, pull: Any, most: Any) -> Any:
    """Returns Δ, clipped to [max(−s⁻, s⁺ − most), min(s⁺, most − s⁻)]."""
    least, largest = -minus, plus
    least = plus - most if plus - most > least else least
    largest = most - minus if most - minus < largest else largest
    delta = pull if pull > least else least
    return delta if delta < largest else largest


@compiled
def clip(
    most: Any, largest: Any, values: Any, step: int, clipped: Any, rows: int, columns: int
) -> bool:
    """Writes values, whose rows are a ``step`` apart, clipped to [0, most]. Returns True if then
    every one is at most the ``largest``, which a NaN is not."""
    zero, far = largest - largest, 0
    for row in range(rows):
        given = values[row * step :][:columns]
        made = clipped[row * columns :][:columns]
        for i in range(columns):
            made[i] = value = _clipped(given[i], zero, most)
            far |= int(not value <= largest)
    return far == 0


@compiled
def relax(
    half: Any,
    most: Any,
    largest: Any,
    basal: Any,
    basal_step: int,
    apical: Any,
    apical_step: int,
    last_mean: Any,
    last_difference: Any,
    mean: Any,
    difference: Any,
    plus: Any,
    minus: Any,
    keeps: bool,
    rows: int,
    columns: int,
) -> tuple[bool, int, int, bool]:
    """Writes mean and difference, and the states if it ``keeps`` them: if not they are scratch of
    `PIECE` values. Rows of the potentials are a step apart.

    Returns:
        True if every state is at most the ``largest``. Where the last mean is not empty: how many
        values of mean and difference are others than the last ones, of which the difference may be
        empty for zeros, and if any difference is not zero.
    """
    zero, far, means, differences, nonzero = half - half, 0, 0, 0, 0
    counts, knows = len(last_mean) > 0, len(last_difference) > 0
    for row in range(rows):
        for start in range(0, columns, PIECE):
            size = min(PIECE, columns - start)
            a = basal[row * basal_step + start :][:size]
            pull = apical[row * apical_step + start :][:size]
            at = slice(row * columns + start, row * columns + start + size)
            s_mean, delta = mean[at], difference[at]
            kept = at if keeps else slice(0, size)
            s_plus, s_minus = plus[kept], minus[kept]
            # Without last ones a stands for them, and is not looked at. An empty array may lie in
            # one that is written, and then values would be computed one by one.
            before, sent = last_mean[at] if counts else a, last_difference[at] if knows else a
            # As wide as the values, which are computed eight at once.
            others, some, more, beyond = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
            for i in range(size):
                change = pull[i] * half
                p, m = _clipped(a[i] + change, zero, most), _clipped(a[i] - change, zero, most)
                middle, d = p - (p - m) * half, _difference(p, m, pull[i], most)
                s_plus[i], s_minus[i], s_mean[i], delta[i] = p, m, middle, d
                beyond |= np.int32(not p <= largest) | np.int32(not m <= largest)
                if counts:  # compiled as a loop of its own
                    others += np.int32(middle != before[i])
                    some += np.int32(d != zero)
                    if knows:
                        more += np.int32(d != sent[i])
            far, means, nonzero = far | int(beyond), means + int(others), nonzero | int(some)
            differences += int(more if knows else some)
    return far == 0, means, differences, nonzero != 0


@compiled
def relax_some(
    half: Any,
    least: Any,
    most: Any,
    scale_plus: Any,
    scale_minus: Any,
    stiff: bool,
    basal: Any,
    apical: Any,
    made: Any,
    dyads: Any,
    plus: Any,
    minus: Any,
    last_mean: Any,
    last_difference: Any,
    kept_basal: Any,
    kept_apical: Any,
    sends: bool,
) -> tuple[bool, int, int, bool]:
    """Computes s̄ and δ, the first of what is ``made`` (4, B, n), of these dyads (n,) of a
    population, whose potentials are clipped to [least, most]; if they are ``stiff``, divided by a
    scale before. Writes s⁺ and s⁻ (B, N), the potentials where they are kept, and δ where it
    ``sends`` it at once.

    Returns:
        If all states are finite, how many of the means and of the differences are others than the
        last ones (B, N), and if any difference is not zero.
    """
    zero, linear = half - half, least < half - half
    rows, columns = basal.shape
    if not rows == len(plus) == len(minus) == len(last_mean) == len(last_difference):
        raise ValueError("the states are of another batch")
    if kept_basal is not None and len(kept_basal) != rows:
        raise ValueError("the basal potentials are of another batch")
    if kept_apical is not None and len(kept_apical) != rows:
        raise ValueError("the apical potentials are of another batch")
    bad, nonzero, means, differences = 0, 0, 0, 0
    for row in range(rows):  # a view of each row would take longer than the row
        if stiff:
            for i in range(columns):
                a, change = basal[row, i], apical[row, i] * half
                p = _clipped((a + change) / scale_plus, least, most)
                m = _clipped((a - change) / scale_minus, least, most)
                made[0, row, i], made[1, row, i] = p - (p - m) * half, p - m
                made[2, row, i], made[3, row, i] = p, m
        elif linear:
            for i in range(columns):
                a, change = basal[row, i], apical[row, i] * half
                made[0, row, i], made[1, row, i] = a, apical[row, i]
                made[2, row, i], made[3, row, i] = a + change, a - change
        else:
            for i in range(columns):
                a, change = basal[row, i], apical[row, i] * half
                p, m = _clipped(a + change, least, most), _clipped(a - change, least, most)
                made[0, row, i] = p - (p - m) * half
                made[1, row, i] = _difference(p, m, apical[row, i], most)
                made[2, row, i], made[3, row, i] = p, m
        for i in range(columns):
            delta, p, m = made[1, row, i], made[2, row, i], made[3, row, i]
            bad |= int((p - p != zero) | (m - m != zero) | (delta - delta != zero))
            nonzero |= int(delta != zero)
        for i in range(columns):
            at, delta = np.uintp(dyads[i]), made[1, row, i]  # signed, it could count from the end
            plus[row, at], minus[row, at] = made[2, row, i], made[3, row, i]
            means += last_mean[row, at] != made[0, row, i]
            differences += last_difference[row, at] != delta
            if sends:
                last_difference[row, at] = delta
        if kept_basal is not None:
            for i in range(columns):
                kept_basal[row, np.uintp(dyads[i])] = basal[row, i]
        if kept_apical is not None:
            for i in range(columns):
                kept_apical[row, np.uintp(dyads[i])] = apical[row, i]
    return bad == 0, means, differences, nonzero != 0
