"""When to look at a network while it trains."""

from __future__ import annotations

from rnnvg.errors import check_int

INTERVALS = 12


def checkpoint_steps(steps: int) -> list[int]:
    """Up to 13 training steps at which to measure the horizon, from 0 to `steps`, dense early.

    The i-th of 12 intervals ends at steps (i/12)^2, to two significant digits: gated networks open their horizon within
    the first third of a run that is long enough to solve its task, and the square puts seven of the looks there.

    Args:
        steps: the training budget, at least 0.

    >>> checkpoint_steps(2000)
    [0, 14, 56, 120, 220, 350, 500, 680, 890, 1100, 1400, 1700, 2000]
    """
    steps = check_int("steps", steps, least=0)
    looks = {round(float(f"{steps * (i / INTERVALS) ** 2:.2g}")) for i in range(INTERVALS)}
    return sorted({look for look in looks if look < steps} | {steps})
