"""Figures, tables and words from a directory of results, and one self-contained page that holds them.

`write` renders a directory; `tables` has the same numbers as frames, `terminal` as plain text. Nothing here is imported
before it is used: matplotlib, seaborn and scipy are slow to load.
"""

from rnnvg.report.write import write

__all__ = ["write"]
