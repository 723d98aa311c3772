"""The passes of a wake at α = ½ of dyads that clip their potential, see `maths.fused`.

They do what torch does, in its order: `dyad.relax`, `dyad.mean` and `Activation.difference`.
"""

from typing import Any

import numpy as np

from neurosim.compiled.compiler import compiled


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
def relax(
    half: Any,
    most: Any,
    basal: Any,
    apical: Any,
    plus: Any,
    minus: Any,
    mean: Any,
    difference: Any,
    rows: int,
    columns: int,
) -> bool:
    """Writes the last four arrays. Returns if all states are finite. ``basal`` and ``apical`` come
    with how far their rows are apart."""
    zero, finite = half - half, True
    for row in range(rows):
        a = basal[0][row * basal[1] :][:columns]
        pull = apical[0][row * apical[1] :][:columns]
        of_row = slice(row * columns, (row + 1) * columns)
        s_plus, s_minus, s_mean = plus[of_row], minus[of_row], mean[of_row]
        delta = difference[of_row]
        for i in range(columns):
            change = pull[i] * half
            p, m = _clipped(a[i] + change, zero, most), _clipped(a[i] - change, zero, most)
            s_plus[i], s_minus[i], s_mean[i] = p, m, p - (p - m) * half
            delta[i] = _difference(p, m, pull[i], most)
            finite &= (p - p == zero) & (m - m == zero)
    return finite


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
