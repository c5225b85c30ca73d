"""Counts the numbers in each sentence of pages: none that a reader meets lists more than four; others belong into a table.

python scripts/count_numbers.py runs/compare/report.html

Sentences are those of paragraphs, captions and headings; tables, figures and scripts are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

MOST = 4
_READ = ("p", "figcaption", "summary", "h1", "h2", "footer", "li")
_SKIPPED = ("svg", "table", "script", "style")
# 0.37, 1,200, 10⁻¹², 6.0e-07; not the digits in float64 or in a version such as 2.13.0.
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]*(?!\.\d)")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z“(])")


class _Sentences(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _READ:
            self.texts.append("")
        if tag in _READ or tag in _SKIPPED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open and not any(tag in _SKIPPED for tag in self.open):
            self.texts[-1] += data


def sentences(document: str) -> Iterator[str]:
    """The sentences of an HTML page outside its tables and figures."""
    reader = _Sentences()
    reader.feed(document)
    for text in reader.texts:
        yield from (each for each in _END.split(" ".join(text.split())) if each)


def numbers(sentence: str) -> list[str]:
    """The numbers of a sentence.

    >>> numbers("In 2 of 3 runs 1,200 float64 norms differ by 6.0e-07, 10⁻¹² or 1/e (37 %).")
    ['2', '3', '1,200', '6.0e-07', '10⁻¹²', '1', '37']
    """
    return _NUMBER.findall(sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=MOST)
    arguments = parser.parse_args()
    found = {}
    for path in arguments.pages:
        every = list(sentences(path.read_text(encoding="utf-8")))
        counts = [len(numbers(each)) for each in every]
        above = [each for each, count in zip(every, counts, strict=True) if count > arguments.most]
        found[str(path)] = {"sentences": len(every), "most": max(counts, default=0), "above": above}
    print(json.dumps(found, indent=1, ensure_ascii=False))
    sys.exit(any(each["above"] for each in found.values()))


if __name__ == "__main__":
    main()
