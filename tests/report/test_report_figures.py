"""The figures, read back from their artists: what is drawn is what the frames say."""

import functools
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from synthetic_results import in_memory

from rnnvg.report import picture as drawing
from rnnvg.report import pooled, style
from rnnvg.report.results import moments
from rnnvg.report.sections import COMPARISON, finding, gradient, learned, opening
from rnnvg.report.style import AFTER, BEFORE

DRAW = {"curves": gradient.PART, "horizons": finding.PART, "opening": opening.PART, "losses": learned.PART}
ELSEWHERE = {"why-it-vanishes", "every-source", "exponents-through-training", "theory-at-initialisation"}
ELSEWHERE |= {"functional-horizon", "length-solved"}
pytestmark = pytest.mark.xdist_group("report figures")  # one process draws them


def drawn(results, name) -> Figure:
    figure = DRAW[name].panels(results).figure
    with style.applied():
        figure.draw_without_rendering()
    return figure


@functools.cache
def shaped(shape, name) -> Figure:
    return drawn(in_memory(*SHAPES[shape]), name)


@pytest.fixture(scope="module")
def figures(comparison):
    return {name: drawn(comparison, name) for name in DRAW}


def labelled(ax, text):
    return [line for line in ax.lines if str(line.get_label()) == text]


def thick(ax):
    return [line for line in ax.lines if line.get_linewidth() > 2]


def thin(ax):
    return [
        line for line in ax.lines if line.get_linewidth() == 0.8 and "/run" not in line.get_label() and line.get_alpha()
    ]


def test_every_figure_of_the_page_is_tested_here():
    figures = {part.name for part in COMPARISON if part.draw is not None}
    assert figures - ELSEWHERE == {part.name for part in DRAW.values()}


@pytest.mark.parametrize("name", DRAW)
def test_axes_have_labels_with_units_and_legends_have_no_empty_entry(figures, name):
    figure = figures[name]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries
    assert all(entries)
    assert len(entries) == len(set(entries))
    assert all(not ax.get_legend() for ax in figure.axes)
    units = {
        "curves": "(time steps back)",
        "horizons": "(time steps)",
        "opening": "training step",
        "losses": "training step",
    }
    bottom = [ax for ax in figure.axes if ax.get_subplotspec().is_last_row()]
    assert len(bottom) == 3
    assert all(units[name] in ax.get_xlabel() for ax in bottom)
    assert [ax.get_title() for ax in figure.axes if ax.get_subplotspec().is_first_row()] == [
        "Copy memory",
        "Adding problem",
        "Next word",
    ]


MEASURED = {"horizons": {0: 2, 9: 30}, "curves": {0: [0.0, -1.0], 9: [0.0, -0.1]}, "losses": {0: 0.2, 9: 0.1}}
SHAPES = {
    "one run": [MEASURED],
    "nothing": [{"status": "failed"}],
    "two tasks": [{**MEASURED, "task": task, "horizons": {0: 2, 9: (30, 1)}} for task in ("copy", "adding")],
    "twelve networks": [
        {**MEASURED, "cell": cell, "init": init}
        for cell in ("rnn", "rnn-relu", "lstm", "gru")
        for init in ("default", "orthogonal", "forget-bias")
    ],
    "four lengths": [{**MEASURED, "length": length} for length in (20, 50, 100, 200)],
    "seven lengths": [{**MEASURED, "length": length} for length in (20, 50, 100, 200, 400, 600, 800)],
}


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("shape", ["comparison", *SHAPES])
def test_the_legend_is_inside_the_figure_and_clear_of_the_axes(name, shape, figures):
    figure = shaped(shape, name) if shape in SHAPES else figures[name]
    (words,) = figure.legends
    box = words.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert not any(box.overlaps(ax.get_tightbbox()) for ax in figure.axes)


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("shape", ["comparison", "seven lengths"])
def test_titles_stay_inside_the_figure_and_apart(figures, name, shape):
    figure = shaped(shape, name) if shape in SHAPES else figures[name]
    boxes = [ax.title.get_window_extent() for ax in figure.axes if ax.get_title()]
    for place, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("shape", ["comparison", "seven lengths"])
def test_neighbouring_panels_do_not_overlap(figures, name, shape):
    figure = shaped(shape, name) if shape in SHAPES else figures[name]
    boxes = [ax.get_tightbbox().padded(-3) for ax in figure.axes]  # the gap between neighbours is as wide
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_many_problems_stand_in_rows_of_three():
    figure = shaped("seven lengths", "curves")
    assert len(figure.axes) == 14
    assert figure.get_figwidth() < 11
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [f"Adding problem\nlength {length}" for length in (20, 50, 100, 200, 400, 600, 800)]
    upper, lower = figure.axes[0], figure.axes[3]
    assert upper.get_shared_x_axes().joined(upper, lower)
    assert not upper.get_shared_x_axes().joined(upper, figure.axes[1])


@pytest.mark.parametrize("name", DRAW)
def test_nothing_is_changed_globally(comparison, name):
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    drawn(comparison, name)
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []


def test_the_settings_come_back_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), style.applied():
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


def test_curves_every_seed_thin_and_the_median_thick(comparison, figures):
    axes = np.reshape(figures["curves"].axes, (2, 3))
    mean = pooled.median_curves(pooled.curves(comparison))
    for row, when in enumerate((BEFORE, AFTER)):
        for column, problem in enumerate(comparison.problems):
            ax = axes[row, column]
            for line in thick(ax):
                part = mean[
                    (mean["problem"] == problem) & (mean["when"] == when) & (mean["network"] == line.get_label())
                ]
                assert line.get_xdata().tolist() == part["distance"].to_list()
                inside = part["log10_gain"].to_numpy() > gradient.FLOOR
                np.testing.assert_array_equal(line.get_ydata()[inside], part["log10_gain"].to_numpy()[inside])
                assert to_hex(line.get_color()) == style.CELL_COLOURS[comparison.cell_of(line.get_label())]
            assert [line.get_label() for line in thick(ax)] == ["RNN (tanh)", "LSTM", "GRU"]
    counts = [[len(thin(ax)) for ax in row] for row in axes]
    assert counts == [[9, 9, 8], [9, 9, 7]]  # one run was never measured, one has no state after training


def test_curves_thresholds_training_length_and_log_axis(figures):
    axes = np.reshape(figures["curves"].axes, (2, 3))
    for column, length in enumerate((22, 50, 35)):
        for ax in axes[:, column]:
            levels = [
                line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1 and line.get_ydata()[0] < 0
            ]
            assert sorted(levels) == [-2, pytest.approx(math.log10(math.exp(-1)))]
            assert [line.get_xdata()[0] for line in ax.lines if list(line.get_xdata()) == [length, length]] == [length]
    assert all([text.get_text() for text in ax.texts] == ["1/e", "0.01"] for ax in axes[0])
    ticks = [label.get_text() for label in axes[1, 0].get_yticklabels()]
    assert "1" in ticks
    assert "$10^{-9}$" in ticks


def test_curves_do_not_draw_an_exact_zero_as_a_number():
    figure = drawn(in_memory({"curves": {0: [0.0, -1.0, -math.inf, -2.0]}}), "curves")
    (line,) = thick(figure.axes[0])
    np.testing.assert_array_equal(line.get_ydata(), [0.0, -1.0, math.nan, -2.0])


def test_curves_make_room_for_a_gradient_that_grows():
    figure = drawn(in_memory({"curves": {0: [0.0, 4.0, 8.0]}}), "curves")
    assert figure.axes[0].get_ylim()[1] > 8


def test_horizons_seeds_medians_and_ranges(comparison, figures):
    seen = pooled.at(moments(comparison.horizons))
    for ax, problem in zip(figures["horizons"].axes, comparison.problems, strict=True):
        rows = seen[seen["problem"] == problem]
        groups = [own["last"] for _, own in rows.groupby(["network", "when"])]
        middles = [line.get_xdata()[0] for line in labelled(ax, "median")]
        assert sorted(middles) == pytest.approx(sorted(own.median() for own in groups))
        ends = [tuple(line.get_xdata()) for line in labelled(ax, "interval")]
        assert sorted(ends) == sorted((own.min(), own.max()) for own in groups if len(own) > 1)
        seeds = [x for label in ("seeds", "censored seeds") for line in labelled(ax, label) for x in line.get_xdata()]
        assert sorted(seeds) == sorted(x for own in groups if len(own) > 1 for x in own)


def test_horizons_what_is_censored_is_an_arrow(figures):
    copy, adding, _ = figures["horizons"].axes
    (seeds,) = labelled(copy, "censored seeds")
    assert seeds.get_marker() == ">"
    assert seeds.get_xdata().tolist() == [88, 88, 88]
    assert [line.get_marker() for line in labelled(copy, "median")].count(">") == 1
    assert [line.get_marker() for line in labelled(adding, "median")].count(">") == 0


def test_horizons_before_is_hollow_and_after_is_filled(figures):
    ax = figures["horizons"].axes[1]
    faces = [to_hex(line.get_markerfacecolor()) for line in labelled(ax, "median")]
    assert faces[0::2] == [style.PAPER] * 3
    assert set(faces[1::2]) == set(style.CELL_COLOURS.values()) - {style.CELL_COLOURS["rnn-relu"]}


def test_horizons_a_range_that_goes_on_beyond_what_was_observed_ends_in_an_arrow(figures):
    copy, adding, _ = figures["horizons"].axes
    (arrow,) = labelled(copy, "goes on")
    assert arrow.get_xdata()[0] == 88
    assert not labelled(adding, "goes on")
    assert "range over seeds" in [text.get_text() for text in figures["horizons"].legends[0].get_texts()]


def test_horizon_axis_has_a_place_for_zero():
    figure = drawn(in_memory({"horizons": {0: 0, 9: 30}}), "horizons")
    (zero, thirty) = labelled(figure.axes[0], "median")
    assert (zero.get_xdata()[0], thirty.get_xdata()[0]) == (0, pytest.approx(30))
    assert figure.axes[0].get_xlim()[0] < 0
    places = figure.axes[0].transData.transform([(0, 0), (30, 0)])
    assert np.isfinite(places).all()


def test_horizons_with_one_seed_claim_no_interval():
    figure = drawn(in_memory({"horizons": {0: 2, 9: 30}}), "horizons")
    assert not labelled(figure.axes[0], "interval")
    assert "range over seeds" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_opening_shares_the_training_step_and_draws_every_run(comparison, figures):
    axes = np.reshape(figures["opening"].axes, (2, 3))
    for column, problem in enumerate(comparison.problems):
        upper, lower = axes[:, column]
        assert upper.get_xlim() == lower.get_xlim()
        assert "held-out loss" in upper.get_ylabel()
        assert lower.get_ylabel() == "memory horizon at 1/e\n(time steps)"
        runs = comparison.runs[(comparison.runs["problem"] == problem) & (comparison.runs["status"] != "failed")]
        for ax in (upper, lower):
            assert {line.get_label() for line in ax.lines} >= {f"{run.network}/{run.id}" for run in runs.itertuples()}


def test_opening_draws_the_horizons_of_the_file(comparison, figures):
    run = comparison.runs[comparison.runs["problem"] == "Adding problem"].iloc[-1]
    seen = pooled.through_training(comparison)
    seen = seen[seen["id"] == run["id"]]
    (line,) = labelled(np.reshape(figures["opening"].axes, (2, 3))[1, 1], f"{run['network']}/{run['id']}")
    assert line.get_xdata().tolist() == seen["step"].to_list()
    assert line.get_ydata().tolist() == seen["last"].to_list()


@pytest.mark.parametrize("name", ["opening", "losses"])
def test_the_baseline_is_a_line_and_broken_runs_end_in_a_cross(figures, name):
    axes = np.reshape(figures[name].axes, (2, 3))
    for column, loss in enumerate((math.log(8) / 22, 1 / 6, math.log(209))):
        (line,) = labelled(axes[0, column], "baseline_loss")
        assert line.get_ydata()[0] == pytest.approx(loss)
    assert len(labelled(axes[0, 2], "broke off")) == 1
    assert not labelled(axes[0, 1], "broke off")
    assert len(labelled(axes[0, 1], "solved")) == 6


def test_losses_take_a_log_axis_only_where_they_span_decades(figures):
    assert [ax.get_yscale() for ax in figures["losses"].axes] == ["log", "log", "linear"] * 2


def test_losses_the_lowest_possible_is_a_line_where_it_is_known():
    results = in_memory({"losses": {0: 3.0, 100: 2.0}, "baseline_loss": 2.5})
    results.runs["best_loss"] = 1.5
    figure = drawn(results, "losses")
    assert labelled(figure.axes[1], "best_loss")[0].get_ydata()[0] == 1.5
    assert "lowest possible" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_networks_of_one_cell_share_the_colour_and_differ_in_dashes():
    results = in_memory({}, {"init": "chrono"}, {"cell": "gru"})
    look = style.looks(results)
    assert look["LSTM"][0] == look["LSTM/chrono"][0] == style.CELL_COLOURS["lstm"]
    assert look["LSTM"][2] != look["LSTM/chrono"][2]
    assert look["GRU"][0] == style.CELL_COLOURS["gru"]


def test_cells_without_a_colour_of_their_own_get_different_ones():
    found = style.colours(["leaky", "residual", "lstm"])
    assert len(set(found.values())) == 3
    assert found["lstm"] == style.CELL_COLOURS["lstm"]


def test_the_palette_is_told_apart_by_colour_blind_readers():
    """Machado, Oliveira, Fernandes 2009: the colours as deuteranopes and protanopes see them stay far apart in CIELAB."""
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    }
    for matrix in matrices.values():
        seen = [_lab(np.clip(np.array(matrix) @ _linear(colour), 0, 1)) for colour in style.CELL_COLOURS.values()]
        for place, one in enumerate(seen):
            for other in seen[place + 1 :]:
                assert np.linalg.norm(one - other) > 15  # 2.3 is just seen


def _linear(colour):
    values = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


LONG = "learning rate warmed up over a fifth of the steps"


def test_a_layout_found_at_one_resolution_keeps_every_label_inside_at_another():
    with style.applied():
        figure = Figure(figsize=(11, 4), layout="constrained")
        ax = figure.subplots()
        ax.set_yticks([0, 1], [LONG, "as it is"])
        drawing.to_bytes(figure, ".svg")
        figure.set_layout_engine("none")
        for dpi in (72, 100, 160, 300):
            figure.set_dpi(dpi)
            renderer = FigureCanvasAgg(figure).get_renderer()
            assert ax.get_yticklabels()[0].get_window_extent(renderer).x0 > 0, dpi
