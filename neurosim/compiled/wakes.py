"""The passes of a wake at α = ½ of dyads that clip their potential, see `maths.fused`.

They do what torch does, in its order: `dyad.relax`, `dyad.mean` and `Activation.difference`.
"""

from typing import Any

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
    up: Any,
    down: Any,
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
    population, and writes s⁺ and s⁻ (B, N), the potentials where they are kept, and δ where it
    ``sends`` it at once.

    Returns:
        If all states are finite, how many of the means and of the differences are others than the
        last ones (B, N), and if any difference is not zero.
    """
    zero, one = half - half, half + half
    finite, nonzero, means, differences = True, False, 0, 0
    rows = len(basal)
    if not rows == len(plus) == len(minus) == len(last_mean) == len(last_difference):
        raise ValueError("the states are of another batch")
    for row in range(rows):
        a, pull = basal[row], apical[row]
        s_mean, delta, s_plus, s_minus = made[0, row], made[1, row], made[2, row], made[3, row]
        if up != one or down != one:
            for i in range(len(dyads)):
                change = pull[i] * half
                p = _clipped((a[i] + change) / up, least, most)
                m = _clipped((a[i] - change) / down, least, most)
                s_plus[i], s_minus[i], s_mean[i], delta[i] = p, m, p - (p - m) * half, p - m
        elif least < zero:  # nothing is clipped
            for i in range(len(dyads)):
                change = pull[i] * half
                s_plus[i], s_minus[i], s_mean[i] = a[i] + change, a[i] - change, a[i]
                delta[i] = pull[i]
        else:
            for i in range(len(dyads)):
                change = pull[i] * half
                p, m = _clipped(a[i] + change, least, most), _clipped(a[i] - change, least, most)
                s_plus[i], s_minus[i], s_mean[i] = p, m, p - (p - m) * half
                delta[i] = _difference(p, m, pull[i], most)
        new_plus, new_minus = plus[row], minus[row]
        old_mean, old = last_mean[row], last_difference[row]
        for i in range(len(dyads)):
            at, p, m = dyads[i], s_plus[i], s_minus[i]
            new_plus[at], new_minus[at] = p, m
            change = delta[i]
            finite &= (p - p == zero) & (m - m == zero) & (change - change == zero)
            means += old_mean[at] != s_mean[i]
            differences += old[at] != change
            nonzero |= change != zero
            if sends:
                old[at] = change
        if kept_basal is not None:
            kept = kept_basal[row]
            for i in range(len(dyads)):
                kept[dyads[i]] = a[i]
        if kept_apical is not None:
            kept = kept_apical[row]
            for i in range(len(dyads)):
                kept[dyads[i]] = pull[i]
    return finite, means, differences, nonzero
