"""Every run, every setting, versions, and how far the profiles are from float64 autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rnnvg.report import wording
from rnnvg.report.page import Table
from rnnvg.report.part import Part
from rnnvg.report.results import Results

GROUPS = ("task", "network", "training", "measure", "versions")
CHECK = ["residual", "compared", "skipped", "weights", "dtype"]


def frame(results: Results) -> pd.DataFrame:
    """A row a run: what became of it, how far its profile is from autograd (CHECK), and every setting (group/setting)."""
    rows = []
    record_of = {record["id"]: record for record in results.records}
    for run in results.runs.to_dict("records"):
        record = record_of[run["id"]]
        check = record.get("verify") or {}
        settings = {"/".join(key): _text(value) for key, value in settings_of(record)}
        rows.append({**run, **{name: check.get(name) for name in CHECK}, **settings})
    damaged = [{"id": run, "status": "left out", "reason": fault} for run, fault in results.damaged.items()]
    return pd.DataFrame([*rows, *damaged])


def sentences(rows: pd.DataFrame) -> list[str]:
    """What the numbers were compared with."""
    checked = rows[rows["compared"].astype(float).fillna(0) > 0]
    statements = []
    if len(checked):
        worst = checked["residual"].astype(float).max()
        kinds = " and ".join(sorted(set(checked["dtype"])))
        statements.append(
            f"Float64 autograd computed {checked['compared'].sum():.0f} norms of the profiles ({kinds}) again; they "
            f"differ by at most {worst:.1e} of their size."
        )
    damaged = rows.loc[rows["status"] == "left out", "id"]
    if len(damaged):
        files = [name for name in damaged if name.endswith(".csv")]  # beside the runs
        runs = [wording.count(len(damaged) - len(files), "run")] if len(files) < len(damaged) else []
        statements.append(f"Left out, because files are not as they were written: {' and '.join([*runs, *files])}.")
    return statements


def settings_wide(rows: pd.DataFrame) -> pd.DataFrame:
    """`settings_table` of a frame with a row a run and a column "group/setting" a setting."""
    names = [name for group in GROUPS for name in rows if str(name).startswith(f"{group}/")]
    shown = []
    for name in names:
        group, setting = str(name).split("/", 1)
        values = {problem: dict.fromkeys(own[name].dropna()) for problem, own in rows.groupby("problem", sort=False)}
        shown.append({"group": group, "setting": setting, **{key: ", ".join(value) for key, value in values.items()}})
    return pd.DataFrame(shown)


def settings_of(record: dict[str, Any]) -> list[tuple[tuple[str, str], Any]]:
    """((group, setting), value) of everything that a run depends on."""
    spec, baseline = record["spec"], record.get("baseline") or {}
    facts = {
        "training length (time steps)": record.get("training_steps"),
        "measured length (time steps)": record.get("n_probe_steps"),
        "baseline": baseline.get("text"),
    }
    task = {**spec["task"], **{key: value for key, value in facts.items() if value is not None}}
    parts = ("schema", "task", "training", "measure", "seed")
    network = {key: value for key, value in spec.items() if key not in parts}
    machine = record.get("machine") or {}
    made_with = {**(record.get("versions") or {}), **{key: machine.get(key) for key in ("system", "processor", "cpus")}}
    made_with["result schema"] = record.get("schema")
    groups = {"task": task, "network": {**network, "seeds": spec["seed"]}, "training": spec.get("training") or {}}
    groups |= {"measure": spec.get("measure") or {}, "versions": made_with}
    return [((group, key), value) for group, settings in groups.items() for key, value in settings.items()]


def _text(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_text(each) for each in value)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def all_tables(rows: pd.DataFrame) -> list[Table]:
    """Every run, the certificate of each, and the settings that differ or agree."""
    runs = pd.DataFrame([_run(row) for row in rows.to_dict("records")])
    settings = settings_wide(rows[rows["status"] != "left out"])
    return [
        Table(settings, "What the results depend on; values that differ are listed."),
        Table(runs, f"Every run ({len(runs)})", folded=True),
    ]


def _run(row: Mapping[Any, Any]) -> dict[str, str]:
    def known(name: str) -> str:
        return wording.known(row.get(name))

    return {
        "run": row["id"],
        "status": row["status"] + (f": {row['reason']}" if row["reason"] else ""),
        "score": known("value"),
        "solved at step": "" if row.get("metric") == "perplexity" else known("solved_at"),
        "steps": known("steps"),
        "parameters": wording.known(row.get("parameters"), "{:,.0f}".format),
        "seconds": known("seconds"),
        "off autograd": known("residual"),
        "weights off": known("weights"),
        "not compared": known("skipped"),
    }


PART = Part(
    name="settings",
    title="Settings and versions",
    frame=frame,
    lead="With the same settings, seeds and versions the numbers come out again on the same machine. The complete "
    "specification of each run is in its result.json.",
    sentences=sentences,
    tables=all_tables,
    folded=True,
)
