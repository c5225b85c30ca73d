"""What the trials say together: a row a remedy, paired by seed with the network as it is, and what to try first."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from rnnvg.advise.remedies import NONE, REMEDIES
from rnnvg.advise.settings import Settings
from rnnvg.advise.trial import EXPLODING
from rnnvg.horizon import MemoryHorizon, PairedHorizons, compare_horizons, half_life, mark, pool_horizons
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd

MOMENTS = ("start", "end")


@dataclass(frozen=True)
class Effect:
    """What one remedy did, over seeds.

    Attributes:
        remedy, change: which one.
        aims_at_cause: whether it is meant for the cause that was named.
        predicted: nats a step before training, by theory, mean over seeds; None where no theory says.
        measured: the same, measured.
        horizon: "start" and "end" (of training) -> pooled horizon in steps, as text; "none" where no gradient was finite.
        paired: "start" and "end" -> its horizons against those of the network as it is, paired by seed; None where fewer than
            two pairs are left.
        silent: "start" and "end" -> seeds in which no gradient at all comes back: their units are dead.
        solved: seeds that solved the task, of `seeds`.
        steps_to_solve: per seed; None where it did not.
        value: median score; None where no seed has a finite one.
        diverged: seeds whose training stopped being finite.

    >>> from rnnvg.advise import advise
    >>> task = {"name": "adding", "length": 6}
    >>> base, effect = advise(task, "rnn", seeds=2, remedies=["orthogonal"], hidden=4, steps=2).effects()
    >>> effect.remedy, effect.seeds
    ('orthogonal', 2)
    """

    remedy: str
    change: str
    aims_at_cause: bool
    predicted: float | None
    measured: float | None
    horizon: dict[str, str]
    paired: dict[str, PairedHorizons | None]
    silent: dict[str, int]
    solved: int
    seeds: int
    steps_to_solve: tuple[int | None, ...]
    value: float | None
    diverged: int

    def log_change(self, when: str) -> tuple[float, float, float] | None:
        """Change of the log horizon at the "start" or "end" of training: (nats, low, high), the median over seeds.

        low and high are the range over fewer than six seeds and order statistics from six on, with the coverage
        `paired[when].coverage`; nan where censoring leaves the change open.
        """
        found = self.paired[when]
        if found is None:
            return None
        return (math.nan if found.ratio is None else _log(found.ratio)), _log(found.low), _log(found.high)

    @property
    def median_steps(self) -> float:
        """Median of steps to solve; inf where half of the seeds did not."""
        return median(math.inf if each is None else each for each in self.steps_to_solve)


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """What was measured, and what it advises; as str() a few sentences.

    Attributes:
        settings: task, network and training that all trials share.
        seeds: networks for each remedy.
        trials: what rnnvg.advise.trial.read_trial gave, by remedy and seed.
        left_out: remedy -> why it was not applied.

    >>> from rnnvg.advise import advise
    >>> task = {"name": "adding", "length": 6}
    >>> found = advise(task, "rnn", seeds=2, remedies=["orthogonal"], hidden=4, steps=2)
    >>> found.seeds, found.to_frame()["remedy"].tolist()[:2]
    (2, ['none', 'orthogonal'])
    """

    settings: Settings
    seeds: int
    trials: tuple[dict[str, Any], ...]
    left_out: dict[str, str]

    def of(self, remedy: str) -> list[dict[str, Any]]:
        """The trials of one remedy by seed."""
        return [each for each in self.trials if each["remedy"] == remedy]

    @property
    def cause(self) -> str:
        """The cause that most seeds name: "recurrent matrix", "saturation", "gates", "explosion" or "" for none."""
        named = [each["cause"]["cause"] for each in self.of(NONE)]
        return max(sorted(set(named)), key=named.count)

    def effects(self) -> tuple[Effect, ...]:
        """The network as it is, then every remedy that was applied, in the order in which they are proposed."""
        present = {each["remedy"] for each in self.trials}
        return tuple(self._effect(name) for name in REMEDIES if name in present)

    def first(self) -> Effect | None:
        """What to try first: most seeds solved, then fewest steps. Where nothing solves more than the network as it is: of the
        remedies whose horizon after training is surely longer, the one with the best median score; None where there is none.
        """
        base, *others = self.effects()
        solving = [each for each in others if (each.solved, -each.median_steps) > (base.solved, -base.median_steps)]
        if solving:
            return min(solving, key=lambda each: (-each.solved, each.median_steps))
        longer = [each for each in others if (change := each.log_change("end")) and change[1] > 0]
        sign = 1 if self.better == "higher" else -1
        return max(longer, key=lambda each: -math.inf if each.value is None else sign * each.value, default=None)

    @property
    def better(self) -> str:
        """The better direction of the score, "lower" or "higher"."""
        return self.settings.make_task().better

    def to_frame(self) -> pd.DataFrame:
        """A row a remedy, those left out with a note and without numbers.

        Columns: remedy, change, aims_at_cause, predicted, measured (nats a step at the start), horizon_start, horizon_end
        (steps, text), log_change_start, _start_low, _start_high (nats), silent_start (seeds), coverage_start, and the same for
        end, solved, seeds, median_steps
        (inf where half of the seeds did not solve it), value, diverged, note.
        """
        import pandas as pd

        rows = []
        for each in self.effects():
            row = {
                key: value
                for key, value in asdict(each).items()
                if key not in ("horizon", "paired", "silent", "steps_to_solve")
            }
            for when in MOMENTS:
                row[f"horizon_{when}"] = each.horizon[when]
                change, pairs = each.log_change(when) or (math.nan,) * 3, each.paired[when]
                row |= dict(zip((f"log_change_{when}{part}" for part in ("", "_low", "_high")), change, strict=True))
                row[f"silent_{when}"] = each.silent[when]
                row[f"coverage_{when}"] = math.nan if pairs is None else pairs.coverage
            rows.append({**row, "median_steps": each.median_steps, "note": ""})
        rows += [
            {"remedy": name, "change": REMEDIES[name].change, "note": f"left out: {why}"}
            for name, why in self.left_out.items()
        ]
        return pd.DataFrame(rows)

    def trial_frame(self) -> pd.DataFrame:
        """A row a trial: remedy, seed, status, predicted, start_rate, start_half_life (steps; inf where nothing decays),
        start_last, start_censored, the same for end, steps, solved_at, metric, value, seconds.
        """
        import pandas as pd

        rows = []
        for trial in self.trials:
            row = {key: trial[key] for key in ("remedy", "seed", "status", "reason", "predicted")}
            for when in MOMENTS:
                found = trial[when] or {}
                rate = found.get("rate")
                row |= {f"{when}_rate": rate, f"{when}_half_life": None if rate is None else half_life(rate)}
                row |= {f"{when}_{key}": found.get(key) for key in ("last", "censored")}
            rows.append(row | {key: trial[key] for key in ("steps", "solved_at", "metric", "value", "seconds")})
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        from rnnvg.advise import words

        return "\n".join(words.sentences(self))

    def _effect(self, name: str) -> Effect:
        trials, base, remedy = self.of(name), self.of(NONE), REMEDIES[name]
        return Effect(
            remedy=name,
            change=remedy.change,
            aims_at_cause=self.cause in remedy.aims_at,
            predicted=_mean([each["predicted"] for each in trials]),
            measured=_mean([(each["start"] or {}).get("rate") for each in trials]),
            horizon={when: _pooled(self.settings, trials, when) for when in MOMENTS},
            paired={when: _pairs(self.settings, trials, base, when) for when in MOMENTS},
            silent={when: sum(each[when] is None for each in trials) for when in MOMENTS},
            solved=sum(each["solved_at"] is not None for each in trials),
            seeds=self.seeds,
            steps_to_solve=tuple(each["solved_at"] for each in trials),
            value=_median([each["value"] for each in trials]),
            diverged=sum(each["status"] != "ok" for each in trials),
        )

    def exploding(self) -> dict[str, list[dict[str, Any]]]:
        """The network made to explode, without clipping and with it -> trials; empty where clipping was not asked for."""
        return {name: found for name in EXPLODING if (found := self.of(name))}


def _horizon(settings: Settings, found: dict[str, Any] | None) -> MemoryHorizon | None:
    return None if found is None else MemoryHorizon.from_row(found, settings.threshold)


def _pooled(settings: Settings, trials: list[dict[str, Any]], when: str) -> str:
    found = [each for trial in trials if (each := _horizon(settings, trial[when])) is not None]
    if not found:
        return "none"
    over = pool_horizons(found).spread
    return mark(over.median) if over is not None else "none"


def _pairs(
    settings: Settings, trials: list[dict[str, Any]], base: list[dict[str, Any]], when: str
) -> PairedHorizons | None:
    pairs = [
        (one, other)
        for trial, reference in zip(trials, base, strict=True)
        if (one := _horizon(settings, trial[when])) and (other := _horizon(settings, reference[when]))
    ]
    return compare_horizons(*zip(*pairs, strict=True)) if len(pairs) > 1 else None


def _log(ratio: float) -> float:
    return -math.inf if ratio == 0 else math.log(ratio)


def _mean(values: list[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


def _median(values: list[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return median(known) if known else None
