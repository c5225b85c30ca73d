"""What the report says of its own numbers: profiles compared with float64 autograd."""

from __future__ import annotations

import math
from typing import Any

from rnnvg.report.results import Results
from rnnvg.report.wording import count


def paragraphs(results: Results) -> list[str]:
    """How far the profiles of the runs are from autograd, at worst; nothing where no run was compared."""
    found = [record["verify"] for record in results.records if record.get("verify")]
    compared = sum(each["compared"] for each in found)
    if not compared:
        return []
    dtype = " and ".join(sorted({each["dtype"] for each in found}))
    told = (
        f"Certificate: {compared} norms of the profiles ({dtype}) of {count(len(found), 'run')} were computed again by "
        f"float64 autograd and differ by at most {_worst(found, 'residual'):.1e} of their size"
    )
    if any(each["weights"] is not None for each in found):
        told += (
            "; what the time steps add to each weight's gradient sums to autograd's gradient within "
            f"{_worst(found, 'weights'):.1e} of it"
        )
    skipped = sum(each["skipped"] for each in found)
    if skipped:
        told += f". {count(skipped, 'more norm')} could not be compared: there float64 autograd reads 0 or loses digits"
    return [told + "."]


def _worst(found: list[dict[str, Any]], name: str) -> float:
    numbers = [math.nan if each[name] is None else float(each[name]) for each in found]
    return max((number for number in numbers if not math.isnan(number)), default=math.nan)
