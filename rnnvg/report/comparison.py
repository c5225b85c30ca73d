"""compare(): the whole of `rnnvg compare` in one call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnvg import bench
from rnnvg.bench.silence import LONGEST_SILENCE
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from rnnvg.bench import Grid
    from rnnvg.report.results import Results


@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Shown):
    """What networks came to on tasks: str() is the finding, `plot` its figure, `to_frame` its table.

    Attributes:
        directory: where everything is kept; the same call goes on there.
        report: the path of report.html.
        results: the runs and their measurements as frames.

    >>> import tempfile
    >>> from rnnvg import Comparison, bench
    >>> from rnnvg.report import results
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     training = {"steps": 2, "batch": 4, "eval_size": 10}
    ...     spec = bench.run_spec({"name": "adding", "length": 5}, "gru", hidden=4, training=training)
    ...     _ = bench.execute(spec, folder)
    ...     Comparison(folder, "report.html", results.read(folder)).to_frame()["network"].tolist()
    ['GRU']
    """

    directory: Path
    report: Path
    results: Results = field(repr=False)

    def __str__(self) -> str:
        from rnnvg.report.sections import finding

        return " ".join(finding.sentences(finding.frame(self.results)))

    def to_frame(self) -> pd.DataFrame:
        """A row a task and network: horizon before and after training of each seed, score, baseline, solved; as text."""
        from rnnvg.report.sections import finding

        (table,) = finding.tables(finding.frame(self.results))
        return table.frame

    def horizons(self) -> pd.DataFrame:
        """Memory horizons as numbers; columns as `rnnvg.report.tables.horizon_table`."""
        from rnnvg.report import tables

        return tables.horizon_table(self.results)

    def scores(self) -> pd.DataFrame:
        """Scores against baselines as numbers; columns as `rnnvg.report.tables.score_table`."""
        from rnnvg.report import tables

        return tables.score_table(self.results)

    def plot(self) -> Axes:
        """Memory horizons before and after training, a panel a task; the Axes of the first."""
        from rnnvg.report.sections import finding

        return finding.PART.panels(self.results).axes[0, 0]


def compare(
    tasks: Sequence[str] | str | None = None,
    cells: Sequence[str] | str | None = None,
    seeds: int | None = None,
    *,
    text: str | None = None,
    out: str | Path = "runs/compare",
    jobs: int = 2,
    max_steps: int | None = None,
    retry_failed: bool = False,
    give_up: bool = False,
    device: str = "cpu",
    quiet: bool = False,
    **settings: Any,
) -> Comparison:
    """Trains networks on tasks, follows their gradients, writes the report: what `rnnvg compare` does.

    Interrupted or killed, the same call goes on where it was; more tasks, cells or seeds extend a directory. In a script, call
    it under `if __name__ == "__main__":`, for worker processes import the script that started them.

    Args:
        tasks, cells: names, as a sequence or with commas; None: copy, adding and next-word; rnn, lstm and gru.
        seeds: networks of each kind, trained apart; None: 3.
        text: what next-word reads.
        out: the directory.
        jobs: worker processes; the results are the same for any number.
        max_steps: no run gets more training steps than this.
        retry_failed: do runs again that failed; their files are set aside.
        give_up: end runs that look hopeless at a tenth of their budget, by the rule of rnnvg.training.give_up; they count as
            not solved. Without it runs that were given up are done again.
        device: "cpu", "cuda" or "auto".
        quiet: no progress bar and no notes.
        **settings: settings of tasks (length=100); each goes to every task that has it.

    Raises:
        InputError: an unknown name or setting, or a directory that holds other settings or cannot be written.

    >>> import tempfile, rnnvg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     comparison = rnnvg.compare("adding", "rnn", 1, out=folder, jobs=1, max_steps=2, length=6, quiet=True)
    >>> comparison.to_frame()[["task", "network"]].values.tolist()
    [['Adding problem', 'RNN (tanh)']]
    """
    from rnnvg import report
    from rnnvg.bench import defaults
    from rnnvg.errors import check_flag
    from rnnvg.report import results

    tell: Callable[[str], object] = (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr))
    grid = defaults.comparison(_names(tasks), _names(cells), seeds, text, max_steps, tell, settings, device, flag="")
    grid = grid.change(give_up=True) if check_flag("give_up", give_up) else grid
    run(grid, out, jobs=jobs, retry_failed=retry_failed, quiet=quiet, auto=True)
    runs = results.read(out)
    return Comparison(Path(out), report.write(runs), runs)


def run(
    grid: Grid,
    out: str | Path,
    *,
    jobs: int,
    retry_failed: bool = False,
    longest_silence: float = LONGEST_SILENCE,
    quiet: bool = False,
    auto: bool = False,
) -> list[dict[str, Any]]:
    """Does the runs of a grid that a directory does not hold yet, under a progress bar; what `bench.run_all` returns.

    Args:
        auto: the bar is a widget where this runs in a notebook.

    Raises:
        InputError: the directory holds other settings, has no room or cannot be written.
        WorkersLostError: no worker comes up.
    """
    from rnnvg.bench.runner import BYTES_A_RUN
    from rnnvg.bench.store import RESULT
    from rnnvg.files import check_room

    specs, store = grid.runs(), bench.Store(out)
    store.check_settings(specs, grid.axes)
    check_room(store.directory, BYTES_A_RUN * sum(not (store.folder(spec.id) / RESULT).exists() for spec in specs))
    bench.Plan.of(grid).beside(out).keep(out)
    names = {spec.id: f"{spec.task['name']} {spec.cell} s{spec.seed}" for spec in specs}
    with bench.ProgressBar(quiet, names=names, auto=auto) as bar:
        how: dict[str, Any] = {"axes": grid.axes, "retry_failed": retry_failed, "longest_silence": longest_silence}
        return bench.run_all(specs, out, jobs=jobs, observer=bar, **how)


def _names(names: Sequence[str] | str | None) -> Sequence[str] | None:
    return [each.strip() for each in names.split(",")] if isinstance(names, str) else names
