"""rnnvg lyapunov: the library's numbers, a table, a certificate, and bad input in one sentence."""

import json
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

import rnnvg as library
from rnnvg import models, tasks

SMALL = ["--length", 10, "--hidden", 6, "--sequences", 2]


def test_exponents_are_those_of_the_library(rnnvg):
    told = rnnvg("lyapunov", "--cell", "lstm", *SMALL, "--burn-in", 5, "--steps", 30, "--json")
    assert (told.exit_code, told.stderr) == (0, "")
    result = json.loads(told.stdout)
    spec = library.bench.run_spec(
        {"name": "adding", "length": 10}, "lstm", hidden=6, training={"lr": 0.005, "steps": 2000}
    )
    task = tasks.make("adding", length=10)
    torch.manual_seed(spec.subseed("weights"))
    model = models.build(task, "lstm", hidden=6)
    probe = task.probe(2, torch.Generator().manual_seed(spec.subseed("probe")))
    found = library.lyapunov_spectrum(model.core, probe.inputs[:35], burn_in=5)
    np.testing.assert_array_equal(result["by_sequence"], found.exponents)
    assert (result["n_exponents"], result["burn_in"], result["steps"]) == (12, 5, 30)
    mean = np.array([[row["exponent"], row["stderr"]] for row in result["spectrum"]])
    np.testing.assert_allclose(mean[:, 0], found.exponents.mean(0))
    np.testing.assert_allclose(mean[:, 1], np.sqrt((found.stderr**2).sum(0)) / 2)
    assert np.abs(result["log_det_residual"]).max() < 1e-9


def test_cells_of_our_own_have_exponents_too(rnnvg):
    told = rnnvg("lyapunov", "--cell", "residual", *SMALL, "--json")
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["cell"] == "residual"
    assert np.abs(found["log_det_residual"]).max() < 1e-4


def test_table_sentences_and_files(rnnvg, tmp_path):
    told = rnnvg("lyapunov", "--cell", "rnn", *SMALL, "--csv", "all.csv", "--figure", "spectrum.png")
    lines = told.stdout.splitlines()
    assert lines[:2] == [
        "RNN (tanh), 6 units, on adding, at initialisation (default, seed 0)",
        "Lyapunov exponents, mean over 2 sequences of 36 steps after 4 of burn-in",
    ]
    assert [line.split()[0] for line in lines[5:10]] == ["1", "2", "3", "5", "6"]
    assert lines[11].startswith("In the long run the gradient vanishes, by a factor of e every ")
    assert lines[12] == "Directions that grow: 0 of the 6 measured."
    assert lines[13].startswith("Certificate: their sum differs from the mean log determinant by ")
    assert len(pd.read_csv(tmp_path / "all.csv")) == 12
    assert matplotlib.image.imread(tmp_path / "spectrum.png").std() > 0.05


def test_a_part_of_the_spectrum_has_no_certificate(rnnvg):
    told = rnnvg("lyapunov", "--cell", "gru", *SMALL, "--n-exponents", 2)
    assert told.stdout.splitlines()[-1].endswith("needs every exponent.")
    assert json.loads(rnnvg("lyapunov", *SMALL, "--n-exponents", 1, "--json").stdout)["log_det_residual"] is None


def test_weights_from_a_file(rnnvg, tmp_path):
    task = tasks.make("adding", length=10)
    model = models.build(task, "rnn-relu", hidden=4)
    core: Any = model.core
    with torch.no_grad():
        core.weight_hh_l0.copy_(1.25 * torch.eye(4))
        core.bias_ih_l0.fill_(100.0)
    models.save(model, tmp_path / "grows.safetensors", task={"name": "adding", "length": 10})
    told = rnnvg("lyapunov", "--weights", "grows.safetensors", "--sequences", 1)
    assert told.stdout.splitlines()[1] == "Weights: grows.safetensors"
    assert "explodes, by a factor of e every 4.48 steps." in told.stdout  # 1 / ln 1.25
    assert "Directions that grow: 4 of the 4 measured." in told.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--n-exponents", 13], "`--n-exponents` must be a whole number from 1 to 12; got 13."),
        (["--n-exponents", 0], "`--n-exponents` must be a whole number of at least 1; got 0."),
        (
            ["--burn-in", 40],
            "`--burn-in` is 40 and the sequences have 40 steps; ask for fewer, or for longer sequences by --length, --delay "
            "or --set.",
        ),
        (
            ["--burn-in", 20, "--steps", 21],
            "`--steps` is 21 after 20 of burn-in and the sequences have 40 steps; ask for fewer, or for longer sequences by "
            "--length, --delay or --set.",
        ),
        (
            ["--steps", 41],
            "`--steps` is 41 and the sequences have 40 steps; ask for fewer, or for longer sequences by --length, --delay or "
            "--set.",
        ),
        (["--burn-in", -1], "`--burn-in` must be a whole number of at least 0; got -1."),
        (["--figure", "spectrum.txt"], "`--figure` 'spectrum.txt' must end in one of .png, .svg, .pdf."),
    ],
)
def test_bad_input(rnnvg, arguments, sentence):
    told = rnnvg("lyapunov", *SMALL, *arguments)
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == f"Error: {sentence}\n"
