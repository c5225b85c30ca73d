"""Where a training computes: refusals, flags that are put back, and on a GPU the same run twice."""

import json

import pytest
import torch

from rnnvg import models, tasks, training
from rnnvg.bench import execute, run_spec
from rnnvg.bench.spec import RunSpec
from rnnvg.errors import InputError
from rnnvg.training import device

ADDING = tasks.make("adding", length=6)
SMALL = {"steps": 6, "batch": 4, "eval_every": 3, "eval_size": 10}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")


def test_the_cpu_is_no_part_of_an_id_and_a_gpu_is():
    plain = run_spec("adding", "gru", hidden=4)
    cpu = run_spec("adding", "gru", hidden=4, training={"device": "cpu"})
    gpu = run_spec("adding", "gru", hidden=4, training={"device": "cuda"})
    assert plain.id == cpu.id != gpu.id
    assert "device" not in plain.to_dict()["training"]
    assert RunSpec.model_validate(json.loads(gpu.canonical)) == gpu


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError) as caught:
        device.chosen("cuda")
    assert str(caught.value) == "`--device` is 'cuda', and PyTorch finds no GPU here. Pass 'cpu'."
    assert device.chosen("auto") == "cpu"
    model = models.build(ADDING, "gru", hidden=4)
    with pytest.raises(InputError) as caught:
        training.fit(model, ADDING, **SMALL, generator=torch.Generator().manual_seed(0), device="cuda")
    assert str(caught.value) == "`device` is 'cuda', and PyTorch finds no GPU here. Pass 'cpu'."
    with pytest.raises(InputError, match="Did you mean 'cuda'"):
        device.check_device("cudaa")


def flags():
    cudnn = torch.backends.cudnn
    return (
        cudnn.deterministic,
        cudnn.benchmark,
        cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )


def test_flags_are_set_for_a_gpu_and_put_back_whatever_happens(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = flags()
    with pytest.raises(ZeroDivisionError), device.deterministic("cuda"):
        assert flags() == (True, False, False, False, True)
        raise ZeroDivisionError
    assert flags() == before
    with device.deterministic("cpu"):
        assert flags() == before


@on_a_gpu
@pytest.mark.parametrize("cell", models.EVERY_CELL)
@pytest.mark.parametrize("task", ["adding", "copy", "next-word"])
def test_a_gpu_gives_the_same_numbers_again_and_measures_what_it_trained(cell, task, tmp_path):
    settings = {"name": "next-word", "n_words": 3000, "distance": 3, "bptt": 10} if task == "next-word" else task
    spec = run_spec(settings, cell, hidden=8, training={**SMALL, "device": "cuda"}, measure={"sequences": 2})
    results = [execute(spec, tmp_path / name) for name in ("one", "other")]
    assert {result["status"] for result in results} == {"ok"}, results[0]["reason"]
    assert results[0]["machine"]["gpu"]
    assert results[0]["machine"]["deterministic"]
    tables = [(tmp_path / name / "runs" / spec.id / "training.csv").read_bytes() for name in ("one", "other")]
    assert tables[0] == tables[1]


@on_a_gpu
def test_a_gpu_starts_from_the_same_weights_and_batches_as_the_cpu():
    scores = {}
    for where in device.DEVICES:
        torch.manual_seed(0)
        model = models.build(ADDING, "lstm", hidden=8)
        generator = torch.Generator().manual_seed(0)
        scores[where] = training.fit(model, ADDING, **SMALL, generator=generator, device=where).score["mse"]
    assert scores["cuda"] == pytest.approx(scores["cpu"], rel=1e-3)
