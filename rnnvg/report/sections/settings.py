"""Every run, every setting, versions, and how far the profiles are from float64 autograd."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from rnnvg.report import tables, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Part
from rnnvg.report.results import Frame, Results

CHECK = ["residual", "compared", "skipped", "weights", "dtype"]


def frame(results: Results) -> Frame:
    """A row a run: what became of it, how far its profile is from autograd (CHECK), and every setting (group/setting)."""
    rows = []
    record_of = {record["id"]: record for record in results.records}
    for run in results.runs.to_dict("records"):
        record = record_of[run["id"]]
        check = record.get("verify") or {}
        settings = {"/".join(key): tables.plain(value) for key, value in tables.settings_of(record)}
        rows.append({**run, **{name: check.get(name) for name in CHECK}, **settings})
    damaged = [{"id": run, "status": "left out", "reason": fault} for run, fault in results.damaged.items()]
    return pd.DataFrame([*rows, *damaged])


def sentences(rows: Frame) -> list[str]:
    """What the numbers were compared with."""
    found = rows[rows["compared"].astype(float).fillna(0) > 0]
    said = []
    if len(found):
        worst = found["residual"].astype(float).max()
        kinds = " and ".join(sorted(set(found["dtype"])))
        said.append(
            f"Float64 autograd computed {found['compared'].sum():.0f} norms of the profiles ({kinds}) again; they "
            f"differ by at "
            f"most {worst:.1e} of their size."
        )
    damaged = rows[rows["status"] == "left out"]
    if len(damaged):
        said.append(f"Left out, because files are not as they were written: {wording.count(len(damaged), 'run')}.")
    return said


def all_tables(rows: Frame) -> list[Table]:
    """Every run, the certificate of each, and the settings that differ or agree."""
    runs = pd.DataFrame([_run(row) for row in rows.to_dict("records")])
    settings = tables.settings_wide(rows[rows["status"] != "left out"])
    return [
        Table.of(settings, "What the results depend on; values that differ are listed."),
        Table.of(runs, f"Every run ({len(runs)})", folded=True),
    ]


def _run(row: dict[str, Any]) -> dict[str, str]:
    def known(name: str) -> str:
        value = row.get(name)
        return "" if value is None or (isinstance(value, float) and math.isnan(value)) else wording.number(float(value))

    parameters = row.get("parameters")
    return {
        "run": row["id"],
        "status": row["status"] + (f": {row['reason']}" if row["reason"] else ""),
        "score": known("value"),
        "solved at step": "" if row.get("metric") == "perplexity" else known("solved_at"),
        "steps": known("steps"),
        "parameters": f"{parameters:,.0f}" if parameters and not math.isnan(parameters) else "",
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
    "specification "
    "of each run is in its result.json.",
    sentences=sentences,
    tables=all_tables,
    folded=True,
)
