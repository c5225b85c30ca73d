"""Puts what benchmarks came to under results/: tables as CSV without weights, one page, and a README with the versions.

rnnvg bench run tcn-adding-small --out runs/published/tcn-adding-small
python scripts/publish_results.py runs/published/* --commit "$(git rev-parse --short HEAD)"
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg import load_results
from rnnvg.bench import Store, plan
from rnnvg.bench.outcome import outcome
from rnnvg.files import write_ours, write_whole
from rnnvg.report import legend, results, tables
from rnnvg.report.page import Page, Section, Table, render
from rnnvg.report.sections import gradient, horizons, ladder, learned, published

ROOT = Path(__file__).resolve().parent.parent


def tables_of(directory: Path, target: Path) -> dict[str, Any]:
    """Writes the tables of one benchmark; those of its outcome."""
    target.mkdir(parents=True, exist_ok=True)
    found = outcome(directory)
    frames = dict(found)
    if Store(directory).results():
        frames |= {"runs": load_results(directory), "horizons": Store(directory).frame("horizons.csv")}
    for name, frame in frames.items():
        write_ours(target / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"), "--out")
    return found


def section(directory: Path, found: dict[str, Any]) -> Section:
    """One benchmark on the page."""
    (grid, *_) = plan.kept(directory).grids
    shown = published.tables(found["published"]) if "published" in found else []
    picture = None
    if Store(directory).results():
        read = results.read(directory)
        if "ladder" in found:
            climbs = ladder.climbs(found["ladder"], found["rungs"], read)
            shown += ladder.tables(climbs)
            picture = ladder.PART.picture(read, climbs)
        else:
            picture = gradient.PART.picture(read)
        shown += learned.score_tables(learned.frame(read))
        shown += horizons.horizon_tables(horizons.frame(read))[:1]
        shown.append(Table.of(tables.settings_table(read), "Settings and versions", folded=True))
        picture = replace(picture, name=f"{grid.name}-{picture.name}")
    return Section(grid.name, grid.title, grid.about, picture, tables=shown)


def verdicts(found: list[dict[str, Any]]) -> Section | None:
    """One table of all benchmarks: published claim and verdict, with how many came out again; None for no figure."""
    frames = [each["published"] for each in found if "published" in each]
    if not frames:
        return None
    every = pd.concat(frames, ignore_index=True)
    table = Table.of(published.verdicts_shown(every), "Published figures and what was found here: median over seeds.")
    return Section("verdicts", "Published figures", paragraphs=published.sentences(every), tables=[table])


def made_with(directories: list[Path]) -> list[str]:
    """Versions and machines, a line each."""
    seen: dict[str, set[str]] = {}
    for directory in directories:
        for result in Store(directory).results():
            told = {**result["versions"], **{key: result["machine"].get(key) for key in ("system", "processor")}}
            for key, value in told.items():
                seen.setdefault(key, set()).add(str(value))
    return [f"{key}: {', '.join(sorted(values))}" for key, values in seen.items()]


def markdown(frame: Any) -> str:
    lines = [" | ".join(frame), " | ".join("---" for _ in frame)]
    lines += [" | ".join(str(cell).replace("|", "/") for cell in row) for row in frame.itertuples(index=False)]
    return "\n".join(f"| {line} |" for line in lines)


def main(directories: list[Path], commit: str, out: Path) -> None:
    sections, told, colours, outcomes = [], [], {}, []
    for directory in sorted(directories, key=lambda each: each.name):
        found = tables_of(directory, out / directory.name)
        outcomes.append(found)
        sections.append(section(directory, found))
        if Store(directory).results():
            colours |= {network: look[0] for network, look in legend.looks(results.read(directory)).items()}
        told.append(f"## {sections[-1].title}\n\n{sections[-1].lead} Again: `rnnvg bench run {directory.name}`.\n")
        if "published" in found:
            told.append(markdown(published.published_shown(found["published"])) + "\n")
        if "ladder" in found and "rungs" in found:
            told.append(markdown(ladder.ladder_shown(found["ladder"], found["rungs"])) + "\n")
    versions = made_with(directories)
    lead = (
        "The benchmarks of published results in their small sizes, beside the figures that the papers give. Few seeds, "
        "short sequences and short budgets: they show whether the machinery gets the same order of things, and not that "
        "a network cannot do what it did not do here."
    )
    page = Page(
        "Published results, small",
        lead,
        sections,
        chips=colours,
        footer=f"Commit {commit}. {'; '.join(versions)}.",
        first=verdicts(outcomes),
    )
    write_ours(out / "index.html", render(page), "--out")
    head = f"# Results\n\n{lead}\n\nThe same with figures: [index.html](index.html). Made at commit {commit}.\n"
    listed = "\n".join(f"- {line}" for line in versions)
    write_whole(out / "README.md", "\n".join([head, *told, f"## Made with\n\n{listed}\n"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    asked = parser.parse_args()
    main(asked.directories, asked.commit, asked.out)
