import json
import shutil

import pandas as pd


def test_it_writes_the_same_report_again_without_training(rnnvg, compared, tmp_path):
    directory = shutil.copytree(compared.directory, tmp_path / "out")
    before = (directory / "report.html").read_bytes()
    (directory / "report.html").unlink()
    shutil.rmtree(directory / "figures")
    told = rnnvg("report", "out")
    assert told.exit_code == 0
    assert told.stderr == "Drawing the figures ...\n"
    assert told.stdout.endswith("\n\nReport: out/report.html\n")
    assert (directory / "report.html").read_bytes() == before
    assert list((directory / "figures").glob("*.svg"))
    # The tables are those that the comparison printed.
    assert told.stdout.rpartition("Report:")[0] == compared.finished.stdout.rpartition("Report:")[0]


def test_as_json(rnnvg, compared, tmp_path, no_drawing):
    directory = shutil.copytree(compared.directory, tmp_path / "out")
    told = rnnvg("report", directory, "--json", "--quiet")
    assert told.stderr == ""
    result = json.loads(told.stdout)
    assert set(result) == {"directory", "report", "horizons", "scores"}
    assert len(result["horizons"]) == len(pd.read_csv(directory / "tables/horizons.csv"))
