"""A section of the report is one file and its place in a list."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def section(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import parameters_section

    return parameters_section.PART


def test_a_section_of_ones_own_stands_in_the_report(section, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parent / "report"))
    from synthetic_results import write_results

    from rnnvg import report
    from rnnvg.report.sections import finding

    where = write_results(tmp_path, tasks=("adding",), cells=("lstm", "gru"), seeds=2)
    written = report.write(where, parts=[finding.PART, section]).read_text(encoding="utf-8")
    assert "LSTM has most parameters: 17,473." in written
    assert '<section id="parameters">' in written
    assert written.count("<figcaption>Parameters of each network.</figcaption>") == 1
    assert {path.name for path in (where / "figures").iterdir()} >= {"parameters.svg", "parameters.png"}


def test_a_section_without_anything_to_show_is_left_out(section, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parent / "report"))
    from synthetic_results import in_memory

    assert section.section(in_memory({"status": "failed"})) is None
    assert "parameters_section" in sys.modules
