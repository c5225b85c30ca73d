"""Figures of texts and language models, by what is drawn in them."""

import numpy as np
import pandas as pd
import pytest
import torch

from rnnvg import models, tasks
from rnnvg.errors import InputError
from rnnvg.functional import truncation
from rnnvg.report import style, text_figures
from rnnvg.report.text_figures import Reach
from rnnvg.text.statistics import PowerLaw

TASK = tasks.make("next-word", distance=4, n_words=6000, bptt=10)
DISTANCES = [1, 2, 4, 8, 16]
INFORMATION = pd.DataFrame(
    {"distance": DISTANCES, "information": [0.5, 0.2, 0.1, 0.05, -0.01], "noise": [0.001] * 5, "n": [1000] * 5}
)
LAW = PowerLaw(0.8, 0.4, 0.01, 0.7, 0.9, 8, 4, 0.1, 0.5)


def reach(cell, name=None):
    curve = pd.DataFrame({"distance": DISTANCES, "log10_gain": [0.0, -1, -2, -4, -np.inf]})
    return Reach(name or style.CELL_LABELS[cell], cell, curve)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


def test_truncation_has_what_vanished_above_and_what_was_cut_below():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(TASK, "gru", hidden=6).double()
    found = truncation(model, TASK.corpus.valid[:18], 5)
    frame = found.to_frame()
    with style.applied():
        figure = text_figures.draw_truncation(found, "gru")
    above, below = figure.axes
    np.testing.assert_allclose(lines(above, "through the whole text").get_ydata(), frame["log10_whole"])
    seen = lines(above, "within windows of 5 words, where not cut off")
    assert np.isnan(seen.get_ydata()[5:].astype(float)).all()
    np.testing.assert_allclose(below.lines[0].get_ydata(), frame["cut"])
    assert below.get_xlabel() == "distance back from the predicted word (words)"
    assert above.get_ylabel()
    assert below.get_ylabel()


def test_statistics_draw_what_is_above_zero_and_the_law_as_far_as_it_was_seen():
    with style.applied():
        figure = text_figures.draw_statistics("a text", INFORMATION, LAW, [reach("lstm"), reach("rnn")])
    above, below = figure.axes
    assert lines(above, "text").get_xdata().tolist() == DISTANCES[:4]
    law = lines(above, "distance to the power -0.80 (-0.90 to -0.70) and a floor")
    assert law.get_xdata()[-1] == pytest.approx(8)
    np.testing.assert_allclose(law.get_ydata(), 0.01 + 0.4 * law.get_xdata() ** -0.8)
    assert labels(below) == ["LSTM", "RNN (tanh)", "1/e"]
    assert lines(below, "LSTM").get_xdata().tolist() == DISTANCES[:4]
    assert lines(below, "LSTM").get_color() == style.CELL_COLOURS["lstm"]
    with style.applied():
        (alone,) = text_figures.draw_statistics("a text", INFORMATION, None, []).axes
    assert alone.get_xlabel() == "distance between the words (words)"


def test_planted_draws_every_seed_and_the_median_beside_the_best_possible():
    rows = [
        (cell, seed, k, accuracy / (1 + seed), 2.0 + seed, 10)
        for cell, accuracy in (("rnn", 0.4), ("lstm", 0.9))
        for seed in (0, 1)
        for k in (2, 5, 9)
    ]
    by_distance = pd.DataFrame(rows, columns=["cell", "seed", "distance", "accuracy", "loss", "n"])
    summary = pd.DataFrame({"cell": ["rnn", "rnn", "lstm", "lstm"], "seed": [0, 1, 0, 1], "loss": [3.0, 3.2, 2.0, 2.1]})
    with style.applied():
        figure = text_figures.draw_planted(by_distance, summary, INFORMATION, LAW, [reach("rnn"), reach("rnn")], 1.5)
    accuracy, information, price, gradients = figure.axes
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "RNN (tanh): 3.10 nats a word",
        "LSTM: 2.05 nats a word",
    ]
    assert legend.get_title().get_text() == "Loss on the text; the best possible is 1.50 nats a word"
    assert labels(accuracy) == ["remembered: half of them"]
    assert labels(price) == ["guessing among 40 verbs", "best possible"]
    np.testing.assert_allclose(lines(accuracy, "LSTM: 2.05 nats a word").get_ydata(), 0.675)
    np.testing.assert_allclose(lines(price, "LSTM: 2.05 nats a word").get_ydata(), 2.5)
    assert labels(gradients) == ["RNN (tanh)", "1/e"]
    assert information.get_ylabel() == "mutual information (nats)"
    assert lines(information, "distance to the power -0.80 (-0.90 to -0.70) and a floor")


def test_files_are_written_whole_and_the_same_again(tmp_path):
    def write(folder):
        with style.applied():
            figure = text_figures.draw_statistics("a text", INFORMATION, LAW, [])
            return text_figures.write(folder, "statistics", figure, {"information": INFORMATION})

    files = write(tmp_path / "one")
    assert list(files) == ["statistics.svg", "statistics.png", "information.csv"]
    assert pd.read_csv(files["information.csv"])["distance"].tolist() == DISTANCES
    again = write(tmp_path / "two")
    for name, path in files.items():
        assert path.read_bytes() == again[name].read_bytes()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        write(tmp_path / "file")
