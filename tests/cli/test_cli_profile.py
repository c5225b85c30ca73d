import json

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

import rnnvg as library
from rnnvg import models, tasks
from rnnvg.cli.curve import NOTHING, _power, as_text

SMALL = ["--length", 10, "--hidden", 8, "--sequences", 4]


def test_horizons_and_curve_are_those_of_the_library(rnnvg):
    told = rnnvg("profile", "--cell", "rnn", *SMALL, "--json")
    assert told.exit_code == 0
    assert told.stderr == ""
    result = json.loads(told.stdout)
    spec = library.bench.run_spec(
        {"name": "adding", "length": 10}, "rnn", hidden=8, training={"lr": 0.005, "steps": 2000}
    )
    task = tasks.make("adding", length=10)
    torch.manual_seed(spec.subseed("weights"))
    model = models.build(task, "rnn", hidden=8)
    profile = library.gradient_profile(
        model.core,
        task.probe(4, torch.Generator().manual_seed(spec.subseed("probe"))).inputs,
        generator=torch.Generator().manual_seed(spec.subseed("covectors")),
    )
    assert result["n_steps"] == 40
    np.testing.assert_array_equal(
        [row["log10_gain"] for row in result["curve"][1:]], profile.curve()["log10_gain"].to_numpy()[1:]
    )
    assert [each["last"] for each in result["horizons"]] == [
        profile.horizon(e).last for e in library.horizon.THRESHOLDS
    ]


def test_text_names_the_network_and_the_horizons(rnnvg):
    told = rnnvg("profile", *SMALL)
    lines = told.stdout.splitlines()
    assert lines[:2] == [
        "LSTM, 8 units, on adding, at initialisation (default, seed 0)",
        "Gradient by the state, 4 sequences of 40 steps (training: 10)",
    ]
    assert [line.split()[0] for line in lines[6:9]] == ["1/e", "0.1", "0.01"]
    assert [line.split()[0] for line in lines[-6:]] == ["1", "2", "5", "10", "20", "40"]
    assert lines[-6].split() == ["1", "1", "1", "1", "#" * 24]


def test_a_curve_far_below_the_smallest_double_and_exact_zeros_are_printed():
    log_norm = np.array([0.0, 0.0, -100.0, -7000.0, -np.inf])[None, :, None]
    profile = library.GradientProfile(log_norm, np.array([3]), np.arange(5), "state")
    facts = dict.fromkeys(("task", "hidden", "init", "wrt", "sequences", "n_steps", "training_steps", "seed"), 1)
    shown = as_text({**facts, "layers": 1, "weights": None, "cell": "rnn"}, profile)
    assert [line.split()[:2] for line in shown.splitlines()[-3:]] == [["1", "1"], ["2", "3.72e-44"], ["4", "0"]]
    low = library.GradientProfile(log_norm[:, :4], np.array([2]), np.arange(4), "state")
    assert (
        as_text({**facts, "layers": 1, "weights": None, "cell": "rnn"}, low).splitlines()[-1].split()[1] == "8.68e-3041"
    )


@pytest.mark.parametrize(
    ("log10", "shown"),
    [
        (0, "1"),
        (-0.3, "0.501"),
        (2.5, "316"),
        (-3000.5, "3.16e-3001"),
        (-4.0001, "1.00e-04"),
        (5.2, "1.58e+05"),
        (-np.inf, "0"),
    ],
)
def test_powers_of_ten(log10, shown):
    assert _power(log10) == shown


def test_csv_and_figure(rnnvg, tmp_path):
    told = rnnvg("profile", *SMALL, "--csv", "curve.csv", "--figure", "curve.png", "--json")
    curve = pd.DataFrame(json.loads(told.stdout)["curve"]).astype(float)
    written = pd.read_csv(tmp_path / "curve.csv")
    pd.testing.assert_frame_equal(written, curve, check_dtype=False)
    picture = matplotlib.image.imread(tmp_path / "curve.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.csv", "curve.png"]


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_figures_in_lines(rnnvg, tmp_path, ending):
    rnnvg("profile", *SMALL, "--figure", f"curve.{ending}")
    assert (tmp_path / f"curve.{ending}").read_bytes()[:5] == {"svg": b"<?xml", "pdf": b"%PDF-"}[ending]


@pytest.mark.parametrize(
    ("given", "sources"), [("last", [39]), ("3", [12, 26, 39]), ("5,-1", [5, 39]), ("all", list(range(40)))]
)
def test_sources(rnnvg, given, sources):
    assert json.loads(rnnvg("profile", *SMALL, "--sources", given, "--json").stdout)["sources"] == sources


def test_another_seed_is_another_network(rnnvg):
    one, two = (json.loads(rnnvg("profile", *SMALL, "--seed", seed, "--json").stdout)["curve"] for seed in (0, 1))
    assert one[5]["log10_gain"] != two[5]["log10_gain"]


def test_a_text_is_next_word(rnnvg):
    told = rnnvg("profile", "--text", "agreement", "--hidden", 8, "--sequences", 2, "--json")
    result = json.loads(told.stdout)
    assert (result["task"], result["hidden"], len(result["sources"])) == ("next-word", 8, 8)


def test_the_callers_random_state_is_left_alone(rnnvg):
    before = torch.get_rng_state()
    rnnvg("profile", *SMALL)
    assert torch.equal(torch.get_rng_state(), before)


class TestWeights:
    @pytest.fixture
    def weights(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        task = tasks.make("adding", length=10)
        models.save(models.build(task, "gru", hidden=8), path, task={"name": "adding", "length": 10})
        return path

    def test_task_and_network_come_with_the_file(self, rnnvg, weights):
        result = json.loads(rnnvg("profile", "--weights", weights, "--json").stdout)
        assert (result["cell"], result["hidden"], result["settings"]["length"]) == ("gru", 8, 10)
        assert result["weights"] == str(weights)

    def test_their_own_numbers_are_measured(self, rnnvg, weights):
        model = models.load(weights)
        result = json.loads(rnnvg("profile", "--weights", weights, "--json").stdout)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.mul_(0.5)
        models.save(model, weights, task={"name": "adding", "length": 10})
        halved = json.loads(rnnvg("profile", "--weights", weights, "--json").stdout)
        assert halved["rate"] < result["rate"] - 0.05

    def test_longer_sequences_than_they_were_trained_on(self, rnnvg, weights):
        result = json.loads(rnnvg("profile", "--weights", weights, "--length", 50, "--json").stdout)
        assert result["n_steps"] == 200

    def test_another_task_needs_the_same_shape(self, rnnvg, weights):
        told = rnnvg("profile", "--weights", weights, "--task", "copy")
        assert told.exit_code == 2
        assert told.stderr == (
            f"Error: {weights} takes numbers, 2 in and 1 out; task 'copy' has tokens, 10 in and 9 out. "
            "Pass the task that it was made for, or build another model.\n"
        )

    def test_a_new_networks_options_are_refused(self, rnnvg, weights):
        told = rnnvg("profile", "--weights", weights, "--t-max", 8)
        assert told.exit_code == 2
        assert told.stderr == (
            "Error: `--t-max` describes a new network and --weights brings one. Leave out one of the two.\n"
        )

    def test_dead_units_are_told_and_not_drawn(self, rnnvg, tmp_path):
        task = tasks.make("adding", length=10)
        model = models.build(task, "rnn-relu", hidden=4)
        torch.nn.init.constant_(model.core.bias_ih_l0, -100.0)
        models.save(model, tmp_path / "dead.safetensors", task={"name": "adding", "length": 10})
        told = rnnvg("profile", "--weights", "dead.safetensors", "--figure", "curve.png")
        assert told.exit_code == 0
        assert told.stdout.splitlines()[-1] == NOTHING
        assert not (tmp_path / "curve.png").exists()
        result = json.loads(rnnvg("profile", "--weights", "dead.safetensors", "--json").stdout)
        assert (result["horizons"], result["rate"]) == ([], None)

    def test_a_damaged_file(self, rnnvg, weights):
        weights.write_bytes(weights.read_bytes()[:-7])
        told = rnnvg("profile", "--weights", weights)
        assert told.exit_code == 2
        assert told.stderr.startswith(f"Error: {weights} is not a .safetensors file that rnnvg wrote, or is damaged (")


class TestCauses:
    def test_why_a_vanilla_networks_gradient_decays(self, rnnvg):
        told = rnnvg("profile", "--cell", "rnn", *SMALL, "--why")
        assert told.exit_code == 0
        lines = told.stdout.splitlines()
        place = lines.index("Why, for a loss at the last step")
        assert lines[place + 1].startswith("over 40 steps: -")
        assert "nats saturation" in lines[place + 1]
        assert lines[place + 2].startswith("By the task's own loss the last 10 steps make ")
        assert lines[-1].split()[:2] == ["0", "activation"]

    def test_why_as_json_is_the_librarys_attribution(self, rnnvg):
        why = json.loads(rnnvg("profile", "--cell", "gru", *SMALL, "--why", "--json").stdout)["why"]
        assert sum(why["shares"].values()) == pytest.approx(1)
        assert {row["name"] for row in why["gates"]} == {"reset gate", "update gate", "candidate"}
        assert set(why["counterfactuals"]) == {"tanh slopes 1", "gates held", "reset gate open", "all gates open"}
        assert why["sentence"].startswith("over 40 steps: ")
        assert why["recent"]["steps"] == 10

    def test_theory_beside_five_networks_and_all_in_one_figure(self, rnnvg, tmp_path):
        told = rnnvg("profile", "--cell", "gru", *SMALL, "--why", "--theory", "--figure", "why.png")
        assert "Theory, 5 networks as they start, up to distance 8" in told.stdout.splitlines()
        assert "predicted: z = " in told.stdout
        assert matplotlib.image.imread(tmp_path / "why.png").shape[0] == 1800  # three panels
        found = json.loads(rnnvg("profile", "--cell", "gru", *SMALL, "--theory", "--json").stdout)["theory"]
        assert found["n_models"] == 5
        assert found["rate_z"] == pytest.approx((found["rate"] - found["predicted_rate"]) / found["rate_stderr"])

    def test_a_setting_that_theory_does_not_cover_is_warned_of(self, rnnvg):
        told = rnnvg("profile", "--cell", "lstm", *SMALL, "--init", "chrono", "--t-max", 500, "--theory")
        assert "Warning: " in told.stdout
        assert "biases are spread by" in " ".join(told.stdout.split())

    def test_theory_is_not_for_trained_weights(self, rnnvg, tmp_path):
        task = tasks.make("adding", length=10)
        models.save(
            models.build(task, "gru", hidden=8), tmp_path / "w.safetensors", task={"name": "adding", "length": 10}
        )
        told = rnnvg("profile", "--weights", "w.safetensors", "--theory")
        assert (told.exit_code, told.stderr) == (
            2,
            "Error: `--theory` is of networks as they start, and --weights brings a trained one. Leave out one of the two.\n",
        )

    def test_in_units_of_the_states_spread(self, rnnvg):
        raw, weighted = (
            json.loads(rnnvg("profile", "--cell", "rnn", *SMALL, "--wrt", wrt, "--json").stdout)["curve"]
            for wrt in ("state", "covariance")
        )
        assert weighted[1]["log10_gain"] == 0
        assert weighted[5]["log10_gain"] != raw[5]["log10_gain"]
        assert weighted[40]["n"] == 0  # the initial state varies with nothing

    def test_why_there_is_no_time_constant(self, rnnvg):
        told = rnnvg("profile", "--cell", "rnn", *SMALL, "--init", "orthogonal")
        (line,) = [each for each in told.stdout.splitlines() if each.startswith("Rate: ")]
        assert "one e-fold in" in line or "no time constant: " in line
