"""rnnvg bench: benchmarks from files, run anywhere, interrupted and taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnnvg import bench
from rnnvg.cli import options, output
from rnnvg.cli.groups import FAILED, HelpfulGroup
from rnnvg.errors import InputError
from rnnvg.faults import WITH_WORKERS, check_memory_limit

if TYPE_CHECKING:
    from rnnvg.bench import Plan

FORMATS = ("csv", "parquet")

_only = click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Runs by an id, words of their ids (lstm, s0, T50) or a pattern with *; as often as needed.",
)
_shard = click.option(
    "--shard", metavar="I/N", default="1/1", help="One of N equal shares, such as 3/8; all may write one directory."
)
_jobs = click.option(
    "--jobs", type=options.whole(1), default=2, help="Worker processes here; the results are the same for any number."
)
_scheduler = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="A running Dask scheduler, such as tcp://host:8786 or tls://host:8786, whose workers see DIR too.",
)
_dry_run = click.option(
    "--dry-run", is_flag=True, help="Say what would be run and about how long it takes; do nothing."
)
_how = options.together(
    *(_only, _shard, _jobs, _scheduler, _dry_run),
    options.retry_failed,
    options.longest_silence,
    options.quiet,
    options.as_json,
)


@click.group(cls=HelpfulGroup)
def command() -> None:
    """Run benchmarks from files; stop them, go on, compare.

    \b
    rnnvg bench list                            benchmarks that come with rnnvg
    rnnvg bench run tcn-adding-small --dry-run  what would be run, and how long
    rnnvg bench run my.toml --out runs/my       run it; again: go on where it was
    rnnvg bench status runs/my                  how far it is
    rnnvg bench compare runs/my runs/other      what differs beyond noise
    rnnvg bench merge runs/hers runs/his --out runs/ours
    rnnvg bench verdicts runs/my                what it reproduces of papers
    """


@command.command("list")
@options.as_json
def list_() -> None:
    """List the benchmarks that come with rnnvg."""
    from rnnvg.bench import grid

    overviews = [grid.overview(name) for name in grid.names()]
    if output.as_json():
        output.result(overviews)
        return
    formatter = click.HelpFormatter(width=output.width())
    formatter.write_dl([(each["name"], _overview(each)) for each in overviews])
    output.result(formatter.getvalue().rstrip())


@command.command()
@click.argument("spec", metavar="SPEC", type=options.BENCHMARK)
@click.option(
    "--out",
    metavar="DIR",
    type=options.FOLDER,
    help="Directory for the results; made where missing.  [default: runs/NAME]",
)
@click.option("--seeds", type=options.whole(1), help="How many networks of each kind.  [default: as in the file]")
@click.option(
    "--set",
    "settings",
    type=options.SETTING,
    multiple=True,
    help="Another value for a setting of the file, as often as needed: --set steps=500 --set text=data/ptb.",
)
@options.give_up
@options.device
@_how
def run(
    spec: str, out: Path | None, seeds: int | None, settings: tuple, give_up: bool, device: str, **how: Any
) -> None:
    """Run the benchmark SPEC: a name from the list, or the path of a .toml file.

    A run that is done is not done again: interrupted or killed, the same command goes on where it was. More seeds and
    cells extend a directory. Runs that --give-up ends (by loss and horizon) count as unsolved, and are done again without it.

    \b
    rnnvg bench run chrono-copy-small
    rnnvg bench run my.toml --only lstm --shard 1/2
    """
    if not how["dry_run"]:
        check_memory_limit(WITH_WORKERS)
    from rnnvg.bench import Plan, grid
    from rnnvg.bench.plan import share

    made = grid.read(spec)
    made = made.select(seeds=seeds) if seeds is not None else made
    made = made.change(**dict(settings)) if settings else made
    made = made.change(device=device) if device != "cpu" else made
    made = made.change(give_up=True) if give_up else made
    plan = Plan.of(made, _patterns(how), share(how.pop("shard")))
    _go(out or Path(f"runs/{made.name}"), plan, **how)


@command.command()
@click.argument("directory", metavar="DIR", type=options.FOLDER)
@_how
def resume(directory: Path, **how: Any) -> None:
    """Go on with the benchmarks of DIR; their files are not needed.

    \b
    rnnvg bench resume runs/my --jobs 4
    """
    from rnnvg.bench import Plan, plan

    number = plan.share(how.pop("shard"))
    kept, patterns = plan.kept(directory, number), _patterns(how)
    if patterns:
        plan.only([run for grid in kept.grids for run in grid.runs()], patterns)
        kept = Plan(kept.grids, tuple(patterns for _ in kept.grids), number)
    _go(directory, kept, keep=False, **how)


@command.command()
@click.argument("directory", metavar="DIR", type=options.FOLDER)
@options.as_json
def status(directory: Path) -> None:
    """Show how far the runs of DIR are: done, under way, failed, damaged, and about how long the rest takes."""
    import dataclasses

    from rnnvg.bench import State
    from rnnvg.cli.bench_text import state_in_words

    state = State.of(directory)
    output.result(dataclasses.asdict(state) if output.as_json() else state_in_words(state))


@command.command()
@click.argument("a", metavar="A", type=options.FOLDER)
@click.argument("b", metavar="B", type=options.FOLDER)
@options.as_json
def compare(a: Path, b: Path) -> None:
    """Show what differs between the results in A and in B beyond noise.

    Networks are paired by seed and compared by score, memory horizon and solved fraction, each with a range or an interval
    over seeds and a p-value corrected for the number of comparisons.
    """
    from rnnvg.cli.bench_text import differences_in_words

    differences = bench.compare(a, b)
    if output.as_json():
        directories = dict(zip("AB", differences.directories, strict=True))
        facts = {"settings": differences.settings, "versions": differences.versions, "unpaired": differences.unpaired}
        facts["given_up"] = differences.given_up
        output.result({"directories": directories, **facts, "rows": output.rows(differences.rows)})
    else:
        output.result(differences_in_words(differences, output.width()))


@command.command()
@click.argument("directories", metavar="DIR...", type=options.FOLDER, nargs=-1, required=True)
@click.option("--out", metavar="DIR", type=options.FOLDER, required=True, help="A new directory for all of them.")
@click.option(
    "--first", is_flag=True, help="Of runs that differ take the first directory's; keep the others set aside."
)
@options.as_json
def merge(directories: tuple[Path, ...], out: Path, first: bool) -> None:
    """Bring the runs in DIR... together in a new directory and leave those as they are.

    A run that two people did with the same numbers is there once. Runs of one id that differ (other bytes, another version,
    another device) are named and refused. Damaged runs are skipped and named.

    \b
    rnnvg bench merge runs/hers runs/his --out runs/ours
    """
    import dataclasses

    from rnnvg.cli.bench_text import merged_in_words

    merged = bench.merge(directories, out, first)
    output.result(dataclasses.asdict(merged) if output.as_json() else merged_in_words(merged))


@command.command()
@click.argument("directories", metavar="DIR...", type=options.FOLDER, nargs=-1, required=True)
@options.as_json
def verdicts(directories: tuple[Path, ...]) -> None:
    """Say which published figures the runs in DIR... reproduce, by tolerances written down before they were run.

    The verdict is reproduced, partly, not, not comparable (with what differs) or not run (with what is missing). DIR is a
    directory that benchmarks wrote, one of tables that were published, or the name of a benchmark.

    \b
    rnnvg bench verdicts runs/published/*
    rnnvg bench verdicts results tcn-adding
    """
    from rnnvg.bench.published import verdicts as verdicts_of
    from rnnvg.cli.bench_text import verdicts_in_words

    table = verdicts_of(directories)
    output.result(output.rows(table) if output.as_json() else verdicts_in_words(table, output.width()))


@command.command()
@click.argument("directory", metavar="DIR", type=options.FOLDER)
@click.option("--format", "form", type=options.name(FORMATS), default="csv", help="csv or parquet.")
@click.option("--out", metavar="FOLDER", type=options.FOLDER, help="Where the four tables go.  [default: DIR/export]")
def export(directory: Path, form: str, out: Path | None) -> None:
    """Write the tables of DIR, all runs together: runs, curves, training, horizons."""
    paths = bench.export(directory, out or directory / "export", form)
    output.result("\n".join(map(str, paths)))


def _go(out: Path, plan: Plan, *, dry_run: bool, keep: bool = True, **how: Any) -> None:
    """Does what is left of a plan and writes the report; `how` is what `bench.run_all` takes."""
    from rnnvg.bench.cluster import check_address, exposure
    from rnnvg.bench.given_up import saving
    from rnnvg.bench.published import write_outcome
    from rnnvg.bench.spec import by_id
    from rnnvg.cli import bench_text
    from rnnvg.cli.report import rendered
    from rnnvg.files import check_room

    if dry_run:
        facts = bench_text.ahead(out, plan, how["jobs"])
        output.result(facts if output.as_json() else bench_text.ahead_in_words(facts, output.width()))
        return
    store = bench.Store(out)
    follow = plan.follow() if plan.climbs() else None
    specs = by_id(plan.runs(store.read().results))
    for task, what in plan.missing.items():
        output.tell(f"{task} is not run. {what}")
    if not specs and not plan.missing:
        raise InputError("This share has no runs: there are more shares than runs. Pass a smaller N in `--shard` I/N.")
    failed = bool(plan.missing)
    if specs:
        store.check_settings(specs.values(), plan.axes)
        if (scheduler := how["scheduler"]) is not None:
            check_address(scheduler)
            if warning := exposure(scheduler):
                output.tell(warning)
        with bench.ProgressBar(output.quiet()) as bar:
            if keep:
                check_room(out, 0)
                plan.keep(out)
            results = bench.run_all(specs.values(), out, observer=bar, axes=plan.axes, follow=follow, **how)
        if saved := saving(results):
            output.tell(f"{saved}.")
        failed = failed or any(result["status"] == "failed" for result in results)
    elif keep:
        check_room(out, 0)
        plan.keep(out)
    frames = write_outcome(out)
    if specs:
        output.tell("Drawing the figures ...")
    shown: Any = rendered(out) if specs else ({} if output.as_json() else "")
    if output.as_json():
        output.result(shown | {name: output.rows(frame) for name, frame in frames.items()})
    else:
        output.result(
            "\n\n".join(part for part in (bench_text.outcome_in_words(frames, output.width()), shown) if part)
        )
    if failed:
        raise click.exceptions.Exit(FAILED)


def _patterns(how: dict[str, Any]) -> tuple[str, ...]:
    names = [part.strip() for each in how.pop("only") for part in each.split(",")]
    return tuple(dict.fromkeys(part for part in names if part))


def _overview(about: dict[str, Any]) -> str:
    seeds = about["seeds"] if isinstance(about["seeds"], int) else len(about["seeds"])
    what = f"{', '.join(about['tasks'])}; {', '.join(about['cells'])}; {seeds} {'seeds' if seeds > 1 else 'seed'}"
    ladder = ", a ladder" if about["ladder"] else ""
    absent = "".join(f" Not here: {what}" for what in about["missing"].values())
    return f"{about['title']}: {what}{ladder}.{absent}"
