"""Checks links of README.md, docs/ and pages that were written: every file, page and anchor that they name is there.

python scripts/check_links.py                    README, CHANGELOG, CONTRIBUTING and docs/
python scripts/check_links.py runs/*/report.html  pages as well
python scripts/check_links.py --external         also asks every address outside; needs a network

Without --external it needs no network, and lists how many addresses outside there are.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HTML = re.compile(r'(?:href|src)="([^"]*)"')


def pages() -> list[Path]:
    """What is read in the repository."""
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs").glob("[at]*/*.md")),
    ]


def links(path: Path) -> Iterator[str]:
    """The targets of a page's links and pictures."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        yield from (each for each in _HTML.findall(text) if not each.startswith("data:"))
    else:
        yield from _LINK.findall(_CODE.sub("", text))


@functools.cache
def anchors(path: Path) -> set[str]:
    """The places of a page that can be linked to: headings as GitHub and MyST name them, ids of HTML."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return set(re.findall(r'\sid="([^"]+)"', text))
    found = set()
    for heading in re.findall(
        r"^#{1,6} +(.+?) *$", _CODE.sub(lambda code: code[0].strip("`"), text), flags=re.MULTILINE
    ):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found | set(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))


def broken(path: Path) -> Iterator[str]:
    """Links of one page that lead nowhere in the repository."""
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = unquote(re.sub(r"\?[^#]*", "", link)).partition("#")
        target = path if not file else path.parent / file
        if not target.exists():
            yield f"{path}: {link}: there is no such file"
        elif anchor and target.suffix in (".md", ".html") and anchor not in anchors(target):
            yield f"{path}: {link}: there is no such place"


def external(paths: list[Path]) -> list[str]:
    """Addresses outside, each once."""
    return sorted({link for path in paths for link in links(path) if re.match(r"https?:", link)})


def unanswered(address: str) -> str:
    """Why an address does not answer; empty where it does."""
    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return ""
    except (urllib.error.URLError, TimeoutError) as error:
        return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--external", action="store_true")
    given = parser.parse_args()
    paths = [*pages(), *given.pages]
    faults = [fault for path in paths for fault in broken(path)]
    addresses = external(paths)
    if given.external:
        faults += [f"{address}: {why}" for address in addresses if (why := unanswered(address))]
    print(*faults, sep="\n" if faults else "")
    asked = "asked" if given.external else "not asked"
    print(f"{sum(len(list(links(path))) for path in paths)} links on {len(paths)} pages, {len(faults)} broken; "
          f"{len(addresses)} addresses outside, {asked}.")  # fmt: skip
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
