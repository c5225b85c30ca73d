"""Puts what benchmarks came to under results/: tables as CSV without weights, one page, and a README with the versions.

rnnvg bench run tcn-adding-small --out runs/published/tcn-adding-small
python scripts/publish_results.py runs/published/* --commit "$(git rev-parse --short HEAD)"
python scripts/publish_results.py tcn-adding       --commit "$(git rev-parse --short HEAD)"     a benchmark that was not run
python scripts/publish_results.py                  the page and the README again, of the tables that are there

A directory may also hold what other scripts wrote (OTHERS: exact_results.json, early-signs/, ...); it is copied. What is
neither is named and passed over. made_with.csv has, for each benchmark and each of those, commit, versions, machine and dates;
what is published again replaces its own rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg import bench, load_results
from rnnvg.bench import Plan, Store
from rnnvg.bench.grid import names
from rnnvg.bench.plan import FOLDER, kept
from rnnvg.bench.published import VERDICTS, outcome, published_table
from rnnvg.bench.published import verdicts as verdicts_of
from rnnvg.bench.spec import Measure, Training
from rnnvg.errors import InputError
from rnnvg.files import write_ours, write_whole
from rnnvg.report import results, style
from rnnvg.report.page import Page, Section, Table, render
from rnnvg.report.sections import finding, horizons, ladder, published

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("published", "ladder", "rungs", "runs", "horizons")
MADE_WITH, UNNAMED = "made_with.csv", "(all)"
# What scripts beside the benchmarks write -> where it is kept; a star is every file.
OTHERS = {
    "exact_results.json": "exact_results.json",
    "exact_results.csv": "exact_results.csv",
    "side_by_side.json": "side_by_side.json",
    "side_by_side.csv": "side_by_side.csv",
    "architectures/architectures.json": "architectures.json",
    "early-signs/*": "early-signs",
}
TRAINING = {*Training.model_fields, *Measure.model_fields}
LEAD = (
    "Published figures run again. A figure counts as reproduced or not only where the settings are the paper's and the "
    "tolerance was written down before the runs. Benchmarks whose names end in -small have few seeds, short sequences and "
    "short budgets: they show whether the order of networks comes out, and not that a network cannot do what it did not do "
    "here."
)


def keep_tables(directory: Path, target: Path) -> None:
    """Writes the tables of one benchmark; of a name alone those of one that was not run."""
    target.mkdir(parents=True, exist_ok=True)
    frames = (
        dict(outcome(directory, plan_of(directory))) if directory.is_dir() else {"published": verdicts_of([directory])}
    )
    if Store(directory).results():
        frames |= {"runs": load_results(directory), "horizons": Store(directory).frame("horizons.csv")}
    for name, frame in frames.items():
        write_ours(target / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"), "--out")


def plan_of(directory: Path) -> Plan:
    """The benchmarks of a directory with the analyses that their files have today: those are written after the runs.

    Raises:
        InputError: a file has been changed in anything else, a tolerance for example.
    """
    plan = kept(directory)
    grids = []
    for old in plan.grids:
        new = bench.read(old.name) if old.name in names() else old
        if _without_analyses(new.source) != _without_analyses(old.source):
            raise InputError(f"The file of {old.name} was changed after its runs in more than analyses. Run it again.")
        grids.append(new)
    return replace(plan, grids=tuple(grids))


def _without_analyses(source: Mapping[str, Any]) -> dict[str, Any]:
    figures = [
        {key: each[key] for key in each if key not in ("analysis", "hours")} for each in source.get("published", ())
    ]
    return {**source, "published": figures}


def kept_tables(folder: Path) -> dict[str, Any]:
    """The tables of one benchmark by name."""
    found = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES if (folder / f"{name}.csv").exists()}
    if "published" in found:
        found["published"] = published_table(folder / "published.csv")
    return found


def read(found: dict[str, Any]) -> results.Results:
    """The runs of one benchmark as its kept tables have them."""
    nothing = pd.DataFrame(columns=["id", "step", "distance", "log10_gain", "value"])
    return results.collect(map(record, found["runs"].to_dict("records")), nothing, found["horizons"], nothing)


def record(row: dict[str, Any]) -> dict[str, Any]:
    """A result.json as far as a row of runs.csv has it."""
    row = {name: None if pd.isna(value) else value for name, value in row.items()}
    settings = {name.removeprefix("set_"): value for name, value in row.items() if name.startswith("set_")}
    task = {name: value for name, value in settings.items() if name not in TRAINING and value is not None}
    network = {name: row[name] for name in ("cell", "seed", "init", "hidden", "layers")}
    scores = {name.removeprefix("score_"): value for name, value in row.items() if name.startswith("score_")}
    kept = ("id", "status", "reason", "solved", "solved_at", "steps", "seconds", "parameters")
    return {
        **{name: row[name] for name in kept},
        "spec": {"task": {"name": row["task"], **task}, **network},
        "score": scores,
        "baseline": {"metric": row["metric"], "value": row["baseline"]},
    }


def section(name: str, found: dict[str, Any]) -> tuple[Section, dict[str, str]]:
    """One benchmark on the page, and the colours of its networks."""
    grid = bench.read(name)
    shown = published.tables(found["published"]) if "published" in found else []
    picture, colours = None, {}
    if "runs" in found:
        runs = read(found)
        colours = {network: look[0] for network, look in style.looks(runs).items()}
        part = ladder.PART if "ladder" in found else finding.PART
        rows = ladder.climbs(found["ladder"], found["rungs"], runs) if "ladder" in found else finding.frame(runs)
        picture = part.picture(runs, rows, name=f"{name}-{part.name}")
        shown += part.tables(rows)
        shown += horizons.horizon_tables(horizons.frame(runs))[:1]
    return Section(name, grid.title, grid.about, picture, tables=shown), colours


def verdicts(frames: list[pd.DataFrame]) -> Section:
    """One table of all benchmarks: published claim and verdict, with how many came out again."""
    every = pd.concat(frames, ignore_index=True)
    every = every.sort_values("verdict", key=lambda column: column.map(VERDICTS.index), kind="stable")
    # Of a reason its beginning; the whole stands in the benchmark's own section.
    short = every.assign(because=every["because"].str.replace(r"([.;] | \(\.).*$", "", regex=True))
    caption = "Published figures and what was found here, median over seeds; every reason in full stands further down."
    table = Table(published.verdicts_shown(short), caption)
    return Section("verdicts", "Published figures", paragraphs=published.sentences(every), tables=[table])


def by_verdict(every: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of all benchmarks for the README, what says most first."""
    order = {name: n for n, name in enumerate((*VERDICTS[:3], "not run", "not comparable"))}
    rows = every.assign(order=every["verdict"].map(order)).sort_values("order", kind="stable")
    shown = published.verdicts_shown(rows).assign(verdict=rows["verdict"].to_numpy())
    shown.insert(4, "tolerance", rows["tolerance"].to_numpy())
    shown.insert(6, "seeds", rows["runs"].to_numpy())
    shown.insert(7, "hours, one thread", ["" if hours == 0 else f"{hours:.2f}" for hours in rows["hours"]])
    return shown


def keep_others(directory: Path, out: Path) -> list[str]:
    """Copies what other scripts wrote; the names of what was found."""
    found = []
    for source, target in OTHERS.items():
        paths = [path for path in sorted(directory.glob(source)) if path.is_file()]
        for path in paths:
            place = out / target / path.name if source.endswith("*") else out / target
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, path.read_bytes())
        found += [Path(target).stem] if paths else []
    return list(dict.fromkeys(found))


def made_with(
    directories: Sequence[Path], others: Mapping[str, Path], commit: str | None, file: Path
) -> dict[str, str]:
    """made_with.csv, a row a benchmark and fact, what is published now in place of what was known of it; every fact as text.

    Args:
        others: what other scripts wrote -> the directory that it was in.
    """
    columns = ["benchmark", "what", "value"]
    old = pd.read_csv(file, dtype=str) if file.exists() else pd.DataFrame(columns=columns)
    if "benchmark" not in old:  # as it was before each benchmark had its own rows
        old.insert(0, "benchmark", UNNAMED)
    rows = []
    for directory in directories:
        seen: dict[str, set[str]] = {"commit": {str(commit)}}
        for result in Store(directory).results():
            machine = {key: result["machine"].get(key) for key in ("system", "processor")}
            date = {"date": str(result["finished"])[:10]}
            for key, value in {**result["versions"], **machine, **date}.items():
                seen.setdefault(key, set()).add(str(value))
        rows += [(directory.name, key, value) for key, values in seen.items() for value in sorted(values)]
    for name, directory in others.items():
        date = datetime.fromtimestamp(directory.stat().st_mtime, UTC).date()
        rows += [(name, "commit", str(commit)), (name, "date", str(date))]
    new = pd.DataFrame(rows, columns=columns)
    # Facts of nobody in particular go when everybody has facts.
    with_runs = {folder.parent.name for folder in file.parent.glob("*/runs.csv")}
    named = {*new["benchmark"], *old["benchmark"]}
    gone = {*new["benchmark"], *([UNNAMED] if with_runs <= named else [])}
    every = pd.concat([old[~old["benchmark"].isin(gone)], new]).sort_values("benchmark", kind="stable")
    write_whole(file, every.to_csv(index=False, lineterminator="\n"))
    return {str(what): ", ".join(sorted(set(own["value"]))) for what, own in every.groupby("what", sort=False)}


def sorted_out(directories: Sequence[Path], out: Path) -> tuple[list[Path], dict[str, Path], list[Path]]:
    """Directories of benchmarks, what other scripts wrote -> where, and benchmarks that were not run.

    Benchmarks of which nothing but a table without runs is kept are made again with the rest: their files may say more today.
    """
    found, others = [], {}
    for each in directories:
        if each.is_dir() and (each / FOLDER).is_dir():
            found.append(each)
        elif each.is_dir() and (copied := keep_others(each, out)):
            others |= dict.fromkeys(copied, each)
        elif not each.is_dir() and str(each) in names():
            found.append(each)
        else:
            print(f"{each} holds no results and is no benchmark: passed over.", file=sys.stderr)
    given = {each.name for each in found}
    tables = [path.parent for path in out.glob("*/published.csv")] if directories else []
    not_run = [path.name for path in tables if path.name not in given and not (path / "runs.csv").exists()]
    return (
        [each for each in found if each.is_dir()],
        others,
        [*(each for each in found if not each.is_dir()), *(Path(name) for name in sorted(not_run) if name in names())],
    )


def markdown(frame: Any) -> str:
    lines = [" | ".join(frame), " | ".join("---" for _ in frame)]
    lines += [" | ".join(str(cell).replace("|", "/") for cell in row) for row in frame.itertuples(index=False)]
    return "\n".join(f"| {line} |" for line in lines)


def main(directories: list[Path], commit: str | None, out: Path) -> None:
    for each in directories:
        if (each / "commit").is_file() and (found := (each / "commit").read_text().strip()) != commit:
            raise InputError(
                f"{each} was made by commit {found}, and --commit is {commit}. Pass the one that made everything."
            )
    run, others, not_run = sorted_out(directories, out)
    for directory in (*run, *not_run):
        keep_tables(directory, out / directory.name)
    versions = made_with(run, others, commit, out / MADE_WITH)
    folders = sorted(folder for folder in out.iterdir() if any((folder / f"{name}.csv").exists() for name in TABLES))
    outcomes = {folder.name: kept_tables(folder) for folder in folders}
    sections, parts, colours = [], [], {}
    for name, found in outcomes.items():
        made, own = section(name, found)
        sections.append(made)
        colours |= own
        parts.append(f"## {made.title}\n\n{made.lead} Again: `rnnvg bench run {name}`.\n")
        if "published" in found:
            parts.append(markdown(published.published_shown(found["published"])) + "\n")
        if "ladder" in found and "rungs" in found:
            parts.append(markdown(ladder.ladder_shown(found["ladder"], found["rungs"])) + "\n")
    listed = [f"{key}: {value}" for key, value in versions.items()]
    every = [found["published"] for found in outcomes.values() if "published" in found]
    first = verdicts(every)
    shown = by_verdict(pd.concat(every, ignore_index=True))
    write_ours(out / "verdicts.csv", shown.to_csv(index=False, lineterminator="\n"), "--out")
    title = "Published results"
    made = Table(
        {"what": list(versions), "value": list(versions.values())}, "Versions, machines and commits of the runs"
    )
    sections.append(Section("made-with", "Made with", tables=[made], folded=True))
    page = Page(
        title, LEAD, sections, chips=colours, footer="Written by rnnvg from the tables beside this page.", first=first
    )
    write_ours(out / "index.html", render(page), "--out")
    head = (
        f"# Results\n\n{LEAD}\n\nThe same with figures: [index.html](index.html).\n\n{' '.join(first.paragraphs)}\n\n"
    )
    head += markdown(shown) + "\n"
    foot = "\n".join(["## Made with\n", *(f"- {line}" for line in listed), ""])
    write_whole(out / "README.md", "\n".join([head, *parts, foot]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="*", type=Path)
    parser.add_argument("--commit", help="of the code that made the runs; needed with directories")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    given = parser.parse_args()
    if given.directories and not given.commit:
        parser.error("--commit is missing: the commit of the code that made the runs.")
    main(given.directories, given.commit, given.out)
