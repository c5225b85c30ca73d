"""The numbers of the option `--give-up` from the runs of early_signs.py: the rule by loss and horizon, of all tasks together.

    python scripts/early_signs_option.py [results/early-signs]    # reads signs.csv there, writes give_up.json beside it

They stand in rnnvg/training/give_up.py, and a test holds the two together. rule.csv has what such a rule keeps on a task that
it has not seen; give_up.json has what this one keeps on the runs that it is from, which is more than it will keep elsewhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from early_signs_analysis import MAIN, Frame, features, logistic, open_at, raw, strictest

from rnnvg.files import write_ours


def option(looks: Frame) -> dict[str, Any]:
    """The regression in the units of `raw`, its threshold, and what it keeps and saves on the same runs."""
    here = open_at(looks, MAIN)
    solved = here["solved"].to_numpy(bool)
    seen = features(here)["loss and horizon"]
    beta = logistic(seen, solved.astype(float))
    score = beta[0] + seen @ beta[1:]
    # From units of a standard deviation back to those of `raw`; every loss and horizon here is finite.
    plain = np.column_stack([np.ones(len(here)), *raw(here)])
    intercept, by_loss, by_reach = np.linalg.lstsq(plain, score, rcond=None)[0].tolist()
    threshold = strictest(np.sort(score[solved]))
    stopped = score < threshold
    every = looks.drop_duplicates(["task", "network", "seed"])
    return {
        "intercept": intercept,
        "by_loss": by_loss,
        "by_reach": by_reach,
        "threshold": threshold,
        "solved": int(every["solved"].sum()),
        "solved_kept": int(every["solved"].sum() - (stopped & solved).sum()),
        "stopped": int(stopped.sum()),
        "steps_saved": float((here["steps"] - here["step"])[stopped].sum() / every["steps"].sum()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("results/early-signs"))
    given = parser.parse_args()
    found = option(pd.read_csv(given.directory / "signs.csv"))
    write_ours(given.directory / "give_up.json", json.dumps(found, indent=1) + "\n", "directory")
    print(json.dumps(found, indent=1))
