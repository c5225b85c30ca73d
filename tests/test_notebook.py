"""Every result shows itself in one line at a prompt, and with its curve and table in a notebook."""

import base64
import dataclasses
import importlib
import pkgutil
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import rnnvg
from rnnvg import functional, models, tasks
from rnnvg.bptt import theory
from rnnvg.horizon import MemoryHorizon, spread
from rnnvg.notebook import ROWS, Shown

HORIZONS = [MemoryHorizon(0.37, last, last + 1, False, -0.1, None) for last in (48, 51, 54)]


@pytest.fixture(scope="module")
def results():
    torch.manual_seed(0)
    lstm, inputs = torch.nn.LSTM(3, 4), torch.randn(12, 2, 3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 1))
    diagnosis = rnnvg.diagnose(model, torch.randn(16, 3), lambda net, batch: net(batch).square().mean())
    profile = rnnvg.gradient_profile(lstm, inputs, sources=[5, 11])
    output_grad = torch.zeros(12, 2, 4)
    output_grad[-1] = 1.0
    prediction = theory.predict_for(torch.nn.LSTM(3, 16), inputs)
    return {
        "GradientProfile": profile,
        "MemoryHorizon": profile.horizon(),
        "HorizonEstimate": rnnvg.pool_horizons(HORIZONS),
        "PairedHorizons": rnnvg.compare_horizons(HORIZONS, HORIZONS[::-1]),
        "HorizonSurvival": rnnvg.horizon_survival(HORIZONS),
        "DecayFit": rnnvg.decay_fit(-0.05 * np.arange(50)),
        "Spread": spread([48, 51, 54]),
        "LyapunovSpectrum": rnnvg.lyapunov_spectrum(lstm, inputs),
        "TemporalContributions": rnnvg.temporal_contributions(lstm, inputs, output_grad=output_grad),
        "DecayAttribution": rnnvg.attribute_decay(lstm, inputs),
        "Diagnosis": diagnosis,
        "Certificate": profile.verify(),
        "WidePrediction": prediction,
        "RecallCurve": functional.RecallCurve(np.array([1, 2, 4, 8]), np.array([99, 90, 60, 20]), 100, 0.125),
    }


NAMES = [
    "GradientProfile", "MemoryHorizon", "HorizonEstimate", "PairedHorizons", "HorizonSurvival", "DecayFit", "Spread",
    "LyapunovSpectrum", "TemporalContributions", "DecayAttribution", "Diagnosis", "Certificate", "WidePrediction",
    "RecallCurve",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_shows_one_line(results, name):
    line = repr(results[name])
    assert line.startswith(f"{name}(")
    assert line.endswith(")")
    assert "\n" not in line
    assert len(line) < 400
    assert "array(" not in line


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_the_sentence_the_figure_and_the_table(results, name):
    found = results[name]
    shown = found._repr_html_()
    ElementTree.fromstring(re.sub(r"<br>", "<br/>", re.sub(r"(<img [^>]*)>", r"\1/>", shown)))  # well formed
    assert f"<b>{name}</b>" in shown
    assert shown.count("<table") == 1
    assert shown.count("<tr") <= ROWS + 1
    drawn = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', shown)
    assert len(drawn) == hasattr(found, "plot")
    assert all(b"<svg" in base64.b64decode(each) for each in drawn)


def test_a_profile_says_its_shape_what_it_is_of_and_how_far_it_reaches(results):
    profile = results["GradientProfile"]
    assert str(profile) == (
        f"2 sources x 13 distances x 2 sequences, by the state: horizon {profile.horizon()} steps at 1/e"
    )
    gone = dataclasses.replace(profile, log_norm=np.full_like(profile.log_norm, np.nan))
    assert str(gone).endswith("no gradient was observed")


def test_every_result_has_a_sentence_of_its_own():
    """str() of a result without one would call its repr(), which calls str()."""
    for module in pkgutil.walk_packages(rnnvg.__path__, "rnnvg."):
        if not module.name.startswith(
            ("rnnvg.cli", "rnnvg.__main__", "rnnvg.bptt.lightning", "rnnvg.bptt.huggingface")
        ):
            importlib.import_module(module.name)
    found = Shown.__subclasses__()
    assert len(found) >= 20
    assert [each.__name__ for each in found if each.__str__ is object.__str__] == []


def test_a_long_answer_is_one_line_at_a_prompt():
    class Long(Shown):
        def __str__(self):
            return "Cause: none.\nTry first: nothing."

    assert repr(Long()) == "Long(Cause: none. ...)"


def test_names_cannot_break_out_of_the_notebook():
    class Nasty(Shown):
        def __str__(self):
            return "<script>alert(1)</script>"

        def _table(self):
            import pandas as pd

            return pd.DataFrame({"<b>": ["<script>"]})

    assert "<script>" not in Nasty()._repr_html_()


def test_a_model_of_a_task_is_profiled_and_shown():
    task = tasks.make("adding", length=8)
    model = models.build(task, "gru", hidden=4)
    inputs = task.probe(2, torch.Generator().manual_seed(0)).inputs
    assert repr(rnnvg.gradient_profile(model.core, model.encode(inputs))).startswith(
        "GradientProfile(1 source x 33 distances x 2"
    )
