"""The sections of the reports, a file each, and which of them a page has.

A section file ends with its PART: what it measures (`frame`), draws (`draw`), says (`sentences`) and tabulates (`tables`).
A new section is a new file and its name in a list here.
"""

from __future__ import annotations

from rnnvg.report.part import Part
from rnnvg.report.sections import (
    exponents,
    finding,
    functional,
    gradient,
    horizons,
    ladder,
    learned,
    opening,
    published,
    settings,
    sources,
    theory,
    why,
)

# The first part is the page's first screen: its sentence, table and figure stand above the list of contents.
COMPARISON: tuple[Part, ...] = tuple(
    module.PART
    for module in (
        finding,
        published,
        ladder,
        gradient,
        learned,
        horizons,
        opening,
        why,
        functional,
        sources,
        exponents,
        theory,
        settings,
    )
)
