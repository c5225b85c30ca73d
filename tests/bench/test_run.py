"""One real run from its specification to its files: the same digits again, interrupted or not, whatever goes wrong."""

import errno
import math
import os

import numpy as np
import pandas as pd
import pytest
import torch

import rnnvg
from rnnvg import faults, models, tasks, training
from rnnvg.bench import parts, run, tables
from rnnvg.bench.run import execute
from rnnvg.bench.spec import RunSpec, run_spec
from rnnvg.bench.store import Store

TEXT = {"name": "next-word", "text": "agreement", "n_words": 2000, "bptt": 10}


def adding(**changes):
    fields = {
        "hidden": 8,
        "training": {"steps": 60, "eval_every": 20, "eval_size": 50, "batch": 10},
        "measure": {"sequences": 4},
    }
    return run_spec({"name": "adding", "length": 10}, **{"cell": "lstm", **fields, **changes})


def contents(directory, spec):
    """Everything a run leaves but result.json, whose times differ."""
    folder = directory / "runs" / spec.id
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One run, uninterrupted."""
    directory = tmp_path_factory.mktemp("done")
    return directory, adding(), execute(adding(), directory)


def test_a_run_leaves_its_tables_its_weights_and_the_whole_record(done):
    directory, spec, result = done
    assert set(contents(directory, spec)) == {
        "curve.csv",
        "training.csv",
        "horizons.csv",
        "causes.csv",
        "weights.safetensors",
    }
    assert result["status"] == "ok"
    assert result["steps"] == 60
    assert result["training_steps"] == 10
    assert result["n_probe_steps"] == 40
    assert result["baseline"]["value"] == pytest.approx(1 / 6)
    assert result["score"]["mse"] > 0
    assert result["verify"]["residual"] < 1e-4
    assert result["verify"]["compared"] == 8
    curve = pd.read_csv(directory / "runs" / spec.id / "curve.csv")
    assert list(curve.columns) == list(tables.CURVE)
    assert sorted(curve["step"].unique()) == training.checkpoint_steps(60)
    assert sorted(curve["wrt"].unique()) == ["input", "state"]
    horizons = pd.read_csv(directory / "runs" / spec.id / "horizons.csv")
    assert len(horizons) == len(training.checkpoint_steps(60)) * 2 * 3


def test_the_curve_is_the_saved_network_s_own(done):
    """The last checkpoint again, by hand, from the weight file and the sub-seeds."""
    directory, spec, result = done
    model = models.load(directory / "runs" / spec.id / "weights.safetensors")
    assert models.count_parameters(model) == result["parameters"]
    probe = tasks.make(**spec.task).probe(4, torch.Generator().manual_seed(spec.subseed("probe")))
    generator = torch.Generator().manual_seed(spec.subseed("covectors"))
    expected = rnnvg.gradient_profile(model.core, probe.inputs, generator=generator).curve()
    curve = pd.read_csv(directory / "runs" / spec.id / "curve.csv")
    last = curve[(curve["step"] == 60) & (curve["wrt"] == "state")]
    np.testing.assert_allclose(last["log10_gain"], expected["log10_gain"], rtol=1e-6, atol=1e-6)


def test_horizons_are_those_of_the_curve(done):
    directory, spec, _ = done
    folder = directory / "runs" / spec.id
    curve, horizons = pd.read_csv(folder / "curve.csv"), pd.read_csv(folder / "horizons.csv")
    for row in horizons.itertuples():
        one = curve[(curve["step"] == row.step) & (curve["wrt"] == row.wrt)].sort_values("distance")
        above = one.loc[one["log10_gain"] >= math.log10(row.threshold), "distance"]
        assert row.last == (above.max() if len(above) else 0)
        assert row.censored == (row.last == one.loc[one["log10_gain"].notna(), "distance"].max())


def test_the_same_run_gives_the_same_bytes_whatever_happened_before(done, tmp_path):
    directory, spec, result = done
    torch.manual_seed(99)
    torch.rand(7)
    again = execute(spec, tmp_path)
    assert contents(tmp_path, spec) == contents(directory, spec)
    different = {
        "seconds",
        "training_seconds",
        "measuring_seconds",
        "floor_seconds",
        "started",
        "finished",
        "machine",
        "checksum",
    }
    assert {key: again[key] for key in set(again) - different} == {key: result[key] for key in set(again) - different}


def test_nothing_of_the_caller_s_is_changed(tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_flush_denormal(False)
    execute(adding(), tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert (torch.tensor([1e-310], dtype=torch.float64) * 0.5).item() > 0
    try:
        torch.set_flush_denormal(True)
        execute(adding(seed=1), tmp_path)
        assert (torch.tensor([1e-310], dtype=torch.float64) * 0.5).item() == 0
    finally:
        torch.set_flush_denormal(False)


def test_denormals_are_flushed_during_the_run(tmp_path):
    seen = []
    execute(adding(), tmp_path, lambda *_: seen.append((torch.tensor([1e-310], dtype=torch.float64) * 0.5).item()))
    assert set(seen) == {0.0}


class Interrupts:
    """Ctrl-C at a training step, once."""

    def __init__(self, at):
        self.at = at

    def __call__(self, step, steps, loss):
        if self.at is not None and step >= self.at:
            self.at = None
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [20, 40])
def test_interrupted_and_taken_up_again_is_the_same_to_the_last_digit(done, tmp_path, at):
    directory, spec, _ = done
    interrupt = Interrupts(at)
    with pytest.raises(KeyboardInterrupt):
        execute(spec, tmp_path, interrupt)
    assert (tmp_path / "runs" / spec.id / run.RESUME).exists()
    assert Store(tmp_path).results() == []
    steps = []
    execute(spec, tmp_path, lambda step, *_: steps.append(step))
    assert min(steps) > at
    assert contents(tmp_path, spec) == contents(directory, spec)


def test_killed_without_a_word_it_goes_on_from_the_last_resume_file(done, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Nothing in the run can react to it, as to SIGKILL."""

    def kill(step, steps, loss):
        if step >= 40:
            raise Killed

    directory, spec, _ = done
    monkeypatch.setattr(run, "RESUME_EVERY", 1e-9)
    with pytest.raises(Killed):
        execute(spec, tmp_path, kill)
    steps = []
    execute(spec, tmp_path, lambda step, *_: steps.append(step))
    assert min(steps) > 20
    assert contents(tmp_path, spec) == contents(directory, spec)


def test_a_text_run_is_taken_up_again_too(tmp_path):
    spec = run_spec(
        TEXT,
        "gru",
        hidden=8,
        embed=8,
        tied=True,
        training={"steps": 60, "batch": 4, "eval_every": 30, "eval_size": 20, "stop_when_solved": False},
        measure={"sequences": 2},
    )
    execute(spec, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        execute(spec, tmp_path / "cut", Interrupts(40))
    result = execute(spec, tmp_path / "cut")
    assert contents(tmp_path / "cut", spec) == contents(tmp_path / "whole", spec)
    assert result["score"]["perplexity"] < result["baseline"]["value"] * 2


def test_a_resume_file_that_cannot_be_used_is_kept_and_the_run_begins_again(done, tmp_path):
    directory, spec, _ = done
    with pytest.raises(KeyboardInterrupt):
        execute(spec, tmp_path, Interrupts(40))
    folder = tmp_path / "runs" / spec.id
    (folder / run.RESUME).write_bytes((folder / run.RESUME).read_bytes()[:100])
    result = execute(spec, tmp_path)
    assert result["status"] == "ok"
    (note,) = result["notes"]
    assert note.startswith(f"{spec.id} was started again. ")
    assert note.endswith(f" The file is kept as {run.RESUME}.unusable.")
    left = contents(tmp_path, spec)
    assert len(left.pop(f"{run.RESUME}.unusable")) == 100
    assert left == contents(directory, spec)


def test_what_is_done_is_not_done_again(done):
    directory, spec, result = done
    assert execute(spec, directory, lambda *_: pytest.fail("it was done")) == result


def test_a_damaged_result_is_set_aside_and_done_again(done, tmp_path):
    directory, spec, _ = done
    execute(spec, tmp_path)
    path = tmp_path / "runs" / spec.id / "result.json"
    path.write_text(path.read_text().replace('"status": "ok"', '"status": "ko"'))
    assert execute(spec, tmp_path)["status"] == "ok"
    assert contents(tmp_path, spec) == contents(directory, spec)
    assert '"ko"' in (tmp_path / "set-aside" / f"{spec.id}-1" / "result.json").read_text()


def test_a_training_that_stops_being_finite_is_a_result(tmp_path):
    spec = adding(cell="rnn-relu", training={"steps": 60, "lr": 1e30, "optimizer": "sgd", "clip": None})
    result = execute(spec, tmp_path)
    assert result["status"] == "diverged"
    assert not result["solved"]
    assert "step" in result["reason"]
    assert result["verify"] is None
    horizons = Store(tmp_path).frame("horizons.csv")
    assert set(horizons["status"]) == {"diverged"}
    assert 0 in set(horizons["step"])


def test_what_is_raised_inside_a_run_is_a_failed_result(tmp_path):
    def fails(*_):
        raise ZeroDivisionError("by zero")

    result = execute(adding(), tmp_path, fails)
    assert (result["status"], result["reason"]) == ("failed", "ZeroDivisionError: by zero")
    assert "Traceback" in (tmp_path / "runs" / adding().id / "error.txt").read_text()
    assert len(Store(tmp_path).frame("horizons.csv")) == 6


def test_a_full_disk_ends_the_run_and_leaves_no_result(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(parts, "write_whole", full)
    with pytest.raises(faults.StorageError, match="has no space left"):
        execute(adding(), tmp_path)
    assert Store(tmp_path).results() == []


def test_another_seed_is_another_network(tmp_path):
    weights = []
    for seed in (0, 1):
        spec = adding(seed=seed, training={"steps": 1, "lr": 1e-9, "eval_size": 2, "checkpoints": []})
        execute(spec, tmp_path)
        weights.append(models.load(tmp_path / "runs" / spec.id / "weights.safetensors").core.weight_hh_l0)
    assert not torch.allclose(*weights, atol=1e-3)


def test_the_number_of_threads_outside_does_not_change_a_digit(done, tmp_path):
    directory, spec, _ = done
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        execute(spec, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert contents(tmp_path, spec) == contents(directory, spec)


@pytest.mark.parametrize(
    ("cell", "fields"),
    [
        ("leaky", {"t_max": 9}),
        ("residual", {}),
        ("layer-norm", {}),
        ("rnn", {"constraint": "orthogonal"}),
        ("rnn-relu", {"init": "identity", "gain": 1.2}),
        ("rnn", {"training": {"omega": 0.5, "warmup": 3, "flossing": 2}}),
    ],
)
def test_other_cells_and_remedies_run_like_the_rest(tmp_path, cell, fields):
    training = {"steps": 4, "eval_every": 2, "checkpoints": [0], **fields.pop("training", {})}
    spec = run_spec(
        {"name": "adding", "length": 6}, cell, hidden=5, training=training, measure={"sequences": 3}, **fields
    )
    result = execute(spec, tmp_path)
    assert (result["status"], result["reason"]) == ("ok", "")
    assert result["verify"]["residual"] < 1e-3  # float32 against float64 over 24 steps
    assert RunSpec.model_validate(result["spec"]) == spec
    model = models.load(tmp_path / "runs" / spec.id / "weights.safetensors")
    assert model.spec["cell"] == cell
    again = execute(spec, tmp_path / "again")
    assert again["score"] == result["score"]
