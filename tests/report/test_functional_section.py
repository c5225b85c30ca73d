"""What networks remember, in the report: from the command line to the artists of the figure."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic_results import in_memory, write_results

from rnnvg import bench
from rnnvg.bench.trained import answers, remember
from rnnvg.cli import main
from rnnvg.errors import InputError
from rnnvg.functional.quadrants import BOTH, LATCHED, NEITHER, UNUSED
from rnnvg.report import results, style
from rnnvg.report.sections import functional, settings

DELAYS = np.array([1, 2, 4, 8, 16, 32, 64, 160])


def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


def asked(**d50):
    """Answers of runs, by the delay at which each forgets at once."""
    rows = [
        (run.replace("_", "-"), int(delay), 500 if delay <= limit else 62, 500, 0.125)
        for run, limit in d50.items()
        for delay in DELAYS
    ]
    return pd.DataFrame(rows, columns=["id", "delay", "right", "n", "chance"])


RUN = {"task": "delayed-recall", "training_steps": 41}


@pytest.fixture(scope="module")
def four():
    """A network in each quadrant, and one whose gradient was not measured."""
    results = in_memory(
        {**RUN, "cell": "lstm", "horizons": {0: 2, 500: (160, "censored")}},
        {**RUN, "cell": "rnn", "horizons": {0: 2, 500: 1}},
        {**RUN, "cell": "gru", "horizons": {0: 2, 500: 90}},
        {**RUN, "cell": "rnn", "seed": 1, "horizons": {0: 2, 500: 3}},
        {**RUN, "cell": "gru", "seed": 1},
    )
    answered = asked(run_00=999, run_01=999, run_02=5, run_03=0, run_04=20)
    return results, answered, functional.horizons(results, answered)


def test_every_network_is_in_its_quadrant(four):
    table = four[2].set_index("id")
    assert table["quadrant"].to_dict() == {
        "run-00": BOTH,
        "run-01": LATCHED,
        "run-02": UNUSED,
        "run-03": NEITHER,
        "run-04": "",
    }
    assert table.loc["run-01", ["d50", "d50_censored", "reach"]].tolist() == [160.0, True, 40]
    assert 4 <= table.loc["run-02", "d50"] <= 8
    assert table.loc["run-03", "d50"] == 0
    assert math.isnan(table.loc["run-04", "gradient"])


def test_the_figure_shows_every_network_once(four):
    results, answered, table = four
    figure = functional.PART.panels(results, functional.joined(results, answered)).figure
    upper, lower = figure.axes
    points = {
        line.get_label(): line.get_xydata()[0].tolist()
        for line in lower.get_lines()
        if line.get_label().startswith("run")
    }
    known = table[table["quadrant"] != ""]
    assert points == {row.id: [row.d50, row.gradient] for row in known.itertuples()}
    assert next(line.get_xdata()[0] for line in lower.get_lines() if line.get_label() == "reach") == 40
    names = [text.get_text().replace("\n", " ") for text in lower.texts if text.get_text()]
    assert sorted(names) == sorted([BOTH, LATCHED, UNUSED, NEITHER])
    curves = [line for line in upper.get_lines() if "/run" in line.get_label()]
    assert len(curves) == 5
    assert sum(text.get_text() == "" for text in lower.texts) == 3  # arrows: two memories and one gradient
    for axis in (upper, lower):
        assert axis.get_ylabel()
    assert "time steps" in lower.get_xlabel()
    # No name of a quadrant lies over another one or over a point.
    with style.applied():
        figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in lower.texts if text.get_text()]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    for place in points.values():
        at = lower.transData.transform(place)
        assert not any(box.contains(*at) for box in boxes)


def shown_of(results, answered):
    return [
        [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        for table in functional.tables(functional.joined(results, answered))
    ]


def test_the_words_and_tables_give_quadrants_horizons_and_correlation(four):
    results, answered, _ = four
    (said,) = functional.sentences(functional.joined(results, answered))
    assert said.startswith("Networks by what they remember at the longest delay of training: ")
    for name in (BOTH, LATCHED, UNUSED, NEITHER):
        assert f"1 in “{name}”" in said
    over_seeds, every = shown_of(results, answered)
    lstm = next(row for row in over_seeds if row["network"] == "LSTM")
    assert (lstm["functional horizon, 50 %"], lstm["longest delay of training"]) == ("> 160", "40")
    assert lstm["gradient and memory of the task"].endswith("over 4 networks")
    assert len(every) == 5


def test_few_networks_have_no_correlation_and_a_misfit_is_told(four):
    results = in_memory({**RUN, "horizons": {0: 2, 500: 3}}, {**RUN, "seed": 1, "horizons": {0: 2, 500: 4}})
    answered = asked(run_00=30, run_01=30)
    answered.loc[answered["delay"] < 3, "right"] = 70
    over_seeds, every = shown_of(results, answered)
    assert over_seeds[0]["gradient and memory of the task"].endswith(
        "2 networks: too few for a rank correlation with an interval, which takes 4; the two horizons of each network and "
        "its quadrant can be reported"
    )
    assert [row["fit"] for row in every] == ["read the curve: no single logistic step"] * 2


def test_networks_that_came_later_are_told(four):
    results, answered, _ = four
    assert len(functional.sentences(functional.joined(results, answered))) == 1
    assert functional.sentences(functional.joined(results, answered[answered["id"] != "run-02"]))[1] == (
        "1 trained network of delayed recall without a measurement of what is remembered: rnnvg report DIR --functional "
        "makes it."
    )


def test_without_answers_there_is_no_section(four):
    assert functional.PART.section(four[0]) is None


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """One tiny network, trained for a step."""
    out = tmp_path_factory.mktemp("recall") / "out"
    spec = bench.run_spec(
        {"name": "delayed-recall", "delay": 4, "n_symbols": 2},
        "rnn",
        hidden=2,
        training={"steps": 1, "batch": 2, "eval_size": 10},
        measure={"sequences": 2},
        seed=0,
    )
    assert bench.execute(spec, out)["reason"] == ""
    bench.Store(out).merge()
    return out


def test_the_command_asks_and_the_report_shows(directory, monkeypatch):
    # The page's other figures take seconds and have tests of their own.
    monkeypatch.setattr("rnnvg.report.sections.COMPARISON", (settings.PART, functional.PART))
    told = call("report", directory, "--functional", "--json")
    assert told.exit_code == 0, told.output
    json.loads(told.stdout)
    assert told.stderr.startswith("Asking delayed-recall-")
    frame = answers(directory)
    assert frame["delay"].tolist() == [1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 16]
    assert (frame["n"] == 500).all()
    assert frame["right"].between(0, 500).all()
    assert "What the networks remember" in (directory / "report.html").read_text()
    assert (directory / "figures" / "functional-horizon.svg").is_file()
    before = (directory / "recall.csv").read_bytes()
    remember(directory)
    assert (directory / "recall.csv").read_bytes() == before


def test_damaged_answers_are_left_out_of_the_report_and_set_aside_where_they_are_asked_again(directory, tmp_path):
    place = tmp_path / "out"
    shutil.copytree(directory, place)
    path = place / "recall.csv"
    remember(place)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b",")
    found = results.read(place)
    assert found.recall is None
    assert [*found.damaged] == ["recall.csv"]
    assert settings.sentences(settings.frame(found))[-1] == (
        "Left out, because files are not as they were written: recall.csv."
    )
    assert not len(functional.frame(found))
    assert path.read_bytes() == whole[: len(whole) // 2] + b","  # who only reads leaves it
    told = []
    remember(place, tell=told.append)
    assert told[-1].startswith(f"'{path}' is damaged: recall.csv ")
    assert told[-1].endswith(f"It was moved to {place / 'set-aside' / 'recall.csv-1'}.")
    assert path.read_bytes() == whole
    # Without its header nothing says that it is ours.
    path.write_text("notes\n")
    with pytest.raises(InputError, match="is there already and is no file of this kind that rnnvg wrote"):
        remember(place)
    assert path.read_text() == "notes\n"


def test_a_directory_without_delayed_recall(tmp_path):
    write_results(tmp_path / "out", tasks=("adding",), cells=("gru",), seeds=1)
    told = call("report", tmp_path / "out", "--functional")
    assert told.exit_code == 2
    assert told.stdout == ""
    assert told.stderr == (
        f"Error: '{tmp_path / 'out'}' holds no finished run of delayed-recall, whose queries come after many delays. "
        f"Train some first: rnnvg compare --tasks delayed-recall --out {tmp_path / 'out'}.\n"
    )


def test_answers_that_were_edited(tmp_path):
    (tmp_path / "recall.csv").write_text("id,delay\n1,2\n")
    with pytest.raises(InputError) as caught:
        answers(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path / 'recall.csv'}' is damaged: recall.csv has the columns 'id, delay' instead of "
        "'id, delay, right, n, chance'. Delete it, and pass --functional again."
    )
