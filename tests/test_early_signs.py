"""The statistics of the study of early signs, on runs that are made up so that the answer is known."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("early_signs_analysis", SCRIPTS / "early_signs_analysis.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(directory, horizon_tells, loss_tells, seeds=5):
    """Runs of four tasks and two networks; of each pair of seeds one is solved at step 1,500 of 2,000."""
    rng = np.random.default_rng(0)
    for task in "abcd":
        for network in ("lstm", "gru"):
            for seed in range(seeds):
                solved = bool(rng.random() < 0.5)
                tells = 2 * solved - 1
                looks = [
                    {
                        "step": step,
                        "horizon_state": int(20 + 8 * horizon_tells * tells + rng.integers(0, 5)),
                        "horizon_input": 3,
                        "gain": None if rng.random() < 0.1 else float(rng.normal()),
                        "exponent": float(rng.normal()),
                        "loss": float(np.exp(-0.3 * loss_tells * tells + 0.1 * rng.normal())),
                        "gradient": float(rng.random()),
                        "recent": None if task == "a" else float(rng.random()),
                    }
                    for step in (20, 40, 100, 200, 400)
                ]
                run = {
                    "task": task,
                    "network": network,
                    "seed": seed,
                    "budget": 2000,
                    "distance": 30,
                    "status": "ok",
                    "solved": solved,
                    "solved_at": 1500 if solved else None,
                    "steps": 1500 if solved else 2000,
                    "score": 0.0,
                    "cpu_seconds": 1.0,
                    "signs": looks,
                }
                (directory / f"{task}-{network}-s{seed}.json").write_text(json.dumps(run))
    return directory


def answered(study, directory):
    runs, looks = study.read(directory)
    found = study.areas(looks), study.against_loss(looks), study.rule(runs, looks)
    return *found, study.answer(*found)


def test_a_horizon_that_tells_and_a_loss_that_does_not_is_a_yes(study, tmp_path):
    areas, against, rules, answer = answered(study, made_up(tmp_path, 1, 0))
    assert answer["answer"] == "yes"
    assert (areas.loc[areas["sign"] == "horizon_state", "auc"] == 1.0).all()
    assert (areas.loc[areas["sign"] == "horizon_input", "auc"] == 0.5).all()
    assert answer["solved_kept"]["horizon"] == 1.0
    lost = rules[(rules["sees"] == "horizon") & (rules["solved"] < 10)]
    assert (lost["stopped"] == 10 - lost["solved"]).all()
    assert (lost["steps_saved"] == 1800 * lost["stopped"]).all()
    assert against.set_index(["share", "sees"]).loc[(0.1, "horizon"), "auc"] == 1.0


def test_a_loss_that_tells_as_much_is_a_no(study, tmp_path):
    *_, answer = answered(study, made_up(tmp_path, 1, 1))
    assert answer["answer"] == "no"
    assert answer["a_auc_above_half"]
    assert not answer["b_more_than_the_loss"]


def test_signs_that_say_nothing_are_a_no(study, tmp_path):
    areas, *_, answer = answered(study, made_up(tmp_path, 0, 0, seeds=12))
    assert answer["answer"] == "no"
    told = areas[areas["sign"].isin(["horizon_state", "exponent", "gradient"])]
    assert ((told["low"] < 0.5) & (told["high"] > 0.5)).mean() > 0.8


def test_areas_are_counted_pair_by_pair(study, tmp_path):
    _, looks = study.read(made_up(tmp_path, 0, 1, seeds=7))
    here = study.open_at(looks, 0.05)
    for sign, (more, missing) in study.SIGNS.items():
        right, pairs = 0.0, 0
        for _, task in here.groupby("task"):
            for _, one in task[task["solved"]].iterrows():
                for _, other in task[~task["solved"]].iterrows():
                    x, y = one[sign], other[sign]
                    if missing is None and (math.isnan(x) or math.isnan(y)):
                        continue
                    right += 0.5 if x == y else float((x > y) == more)
                    pairs += 1
        area, counted = study.within_tasks(here, study.directed(here, sign))
        assert (area, counted) == (pytest.approx(right / pairs), pairs)


def test_the_name_of_a_network_is_set_beside_the_signs(study, tmp_path):
    made_up(tmp_path, 1, 0)
    for file in tmp_path.glob("*.json"):
        run = json.loads(file.read_text())
        solved = run["network"] == "gru"
        file.write_text(json.dumps(run | {"solved": solved, "solved_at": 1500 if solved else None}))
    found = study.by_network(study.read(tmp_path)[1])
    names = found[found["sees"] == "network's name"]
    assert (names["auc"] == 1.0).all()
    assert (names["pairs"] == 4 * 25).all()
    assert (found.loc[found["within"] == "task and network", "pairs"] == 0).all()


def test_a_run_that_is_solved_already_is_left_out(study, tmp_path):
    made_up(tmp_path, 1, 0)
    file = next(path for path in sorted(tmp_path.glob("*.json")) if json.loads(path.read_text())["solved"])
    run = json.loads(file.read_text())
    file.write_text(json.dumps(run | {"solved_at": 150, "steps": 150, "signs": run["signs"][:3]}))
    runs, looks = study.read(tmp_path)
    assert len(study.open_at(looks, 0.05)) == len(study.open_at(looks, 0.1)) + 1 == len(runs)


def test_seeds_that_are_not_whole_are_not_read(study, tmp_path):
    made_up(tmp_path, 1, 0)
    (tmp_path / "a-gru-s3.json").unlink()
    runs, looks = study.read(tmp_path)
    assert sorted(runs["seed"].unique()) == sorted(looks["seed"].unique()) == [0, 1, 2, 4]


def test_bootstrap_samples_keep_the_number_of_seeds_of_each_network(study, tmp_path):
    _, looks = study.read(made_up(tmp_path, 0, 0))
    here = study.open_at(looks, 0.1)
    weights = pd.DataFrame(study.resampled(here).T).groupby([here["task"], here["network"]]).sum()
    assert (weights == 5).all(axis=None)


def test_logistic_regression_is_at_its_minimum(study):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 2)), (rng.random(40) < 0.4).astype(float)

    def cost(beta):
        z = beta[0] + X @ beta[1:]
        return float(np.logaddexp(0, z).sum() - y @ z + 0.5 * study.RIDGE * beta[1:] @ beta[1:])

    beta = study.logistic(X, y)
    for step in np.vstack([np.eye(3), -np.eye(3)]):
        assert cost(beta + 1e-3 * step) > cost(beta)
