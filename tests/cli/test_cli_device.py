"""--device of every command that trains or measures: a GPU that is not there, auto, and on a GPU the CPU's numbers."""

import json
from types import SimpleNamespace

import pytest
import torch

from rnnvg.depth import networks, story, training
from rnnvg.report import depth_page
from rnnvg.tasks.images import digits
from rnnvg.training import device as devices

SMALL = ["--length", "6", "--hidden", "4"]
COMMANDS = {
    "compare": ["compare", "--tasks", "adding"],
    "profile": ["profile", *SMALL],
    "train": ["train", *SMALL],
    "bench": ["bench", "run", "compare"],
    "lyapunov": ["lyapunov", *SMALL],
    "depth": ["depth"],
    "depth report": ["depth", "--report"],
    "depth remedies": ["depth", "--remedies"],
    "advise": ["advise", "--quick"],
    "influence": ["text", "influence", "--weights", "nowhere", "--text", "agreement"],
    "truncation": ["text", "truncation", "--weights", "nowhere", "--text", "agreement"],
    "planted": ["text", "planted"],
}
NO_GPU = "PyTorch finds no GPU here: `--device` auto computes on the CPU."
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")


def test_what_else_is_wrong_is_said_before_a_gpu_is_looked_for(rnnvg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "`--steps` must be a whole number" in rnnvg("train", "--device", "cuda", "--steps", "0").stderr
    assert "Missing option '--weights'" in rnnvg("text", "influence", "--device", "cuda", "--words", "3").stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_gpu_that_is_not_there_is_one_sentence(name, rnnvg, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused = rnnvg(*COMMANDS[name], "--device", "cuda")
    assert refused.exit_code == 2
    assert "`--device` is 'cuda', and PyTorch finds no GPU here. Pass 'cpu'." in " ".join(refused.stderr.split())
    assert refused.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["profile", "lyapunov"])
def test_auto_is_the_cpu_where_there_is_no_gpu_and_says_so(name, rnnvg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu, on_auto = (rnnvg(*COMMANDS[name], "--json", "--device", each) for each in ("cpu", "auto"))
    assert NO_GPU in " ".join(on_auto.stderr.split())
    assert NO_GPU not in on_cpu.stderr
    assert on_auto.stdout == on_cpu.stdout
    assert json.loads(on_cpu.stdout)["device"] == "cpu"
    assert rnnvg(*COMMANDS[name], "-q", "--device", "auto").stderr == ""


def test_a_network_of_depth_says_where_it_was_measured(rnnvg):
    found = json.loads(rnnvg("depth", "--depth", "2", "--width", "4", "--json").stdout)
    assert found["network"]["device"] == "cpu"


NAMED = {"device": "cuda", "gpu": "a GPU", "cuda": "12.8"}


@pytest.mark.parametrize("more", [[], ["--remedies", "--steps", "2"], ["--report"]])
def test_depth_names_the_gpu_that_computed_it(more, rnnvg, monkeypatch):
    monkeypatch.setattr(devices, "named", lambda device: NAMED)
    if more == ["--report"]:  # measured and written elsewhere
        monkeypatch.setattr(story, "measure", lambda *_, **__: SimpleNamespace(seconds=1.5))
        monkeypatch.setattr(depth_page, "write", lambda found, folder: folder / "depth.html")
        more = ["--report", "--out", "here"]
    asked = ["depth", "--depth", "2", "--width", "4", *more] if "--report" not in more else ["depth", *more]
    assert rnnvg(*asked, "-q").stdout.splitlines()[-1] == "Computed on a GPU."
    found = json.loads(rnnvg(*asked, "-q", "--json").stdout)
    found = found[0] if isinstance(found, list) else found.get("network", found)
    assert {name: found[name] for name in NAMED} == NAMED


@pytest.mark.parametrize("name", ["influence", "truncation"])
def test_texts_name_the_gpu_that_computed_them(name, rnnvg, monkeypatch, tmp_path):
    train = ["train", "--task", "next-word", "--text", "agreement", "--hidden", "8", "--steps", "2"]
    assert rnnvg(*train, "--out", tmp_path / "run").exit_code == 0
    monkeypatch.setattr(devices, "named", lambda device: NAMED)
    asked = ["text", name, "--weights", tmp_path / "run", "--text", "agreement", "--words", "20", "-q"]
    assert rnnvg(*asked, "--out", tmp_path / "there").stdout.splitlines()[-1] == "Computed on a GPU."
    found = json.loads(rnnvg(*asked, "--json", "--out", tmp_path / "there").stdout)
    assert {key: found[key] for key in NAMED} == NAMED


def test_networks_of_layers_follow_their_images():
    """Weights are drawn on the CPU; what is made for a training lies where the images do."""
    meta = torch.device("meta")
    network = networks.build(4, 3, depth=3, width=5, device=meta)
    assert {each.device for each in network.parameters()} == {meta}
    shown = digits().to(meta)
    assert {getattr(shown, name).device for name in ("train_x", "train_y", "test_x", "test_y")} == {meta}


def test_what_was_kept_on_one_device_is_not_taken_up_on_another():
    shown = digits()
    on_cpu = story._made_from(shown, {})
    assert "device" not in on_cpu

    class Elsewhere:
        def __getattr__(self, name):
            return getattr(shown, name) if name != "train_x" else Moved()

    class Moved:
        device = torch.device("cuda")

        def double(self):
            return shown.train_x.double()

    assert story._made_from(Elsewhere(), {}) == {**on_cpu, "device": "cuda"}


@pytest.mark.parametrize("name", ["profile", "lyapunov", "depth"])
def test_the_flags_are_those_of_the_device_while_a_command_computes(name, rnnvg, monkeypatch):
    entered, real = [], devices.deterministic
    monkeypatch.setattr(devices, "deterministic", lambda device: entered.append(device) or real(device))
    monkeypatch.setattr(devices, "chosen", lambda device, tell=None: entered.append(device) or "cpu")
    assert rnnvg(*COMMANDS[name], "--device", "cuda", "--json").exit_code == 0
    assert entered == ["cuda", "cpu"]


@on_a_gpu
@pytest.mark.parametrize("name", ["profile", "lyapunov"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_gpu_measures_what_the_cpu_measures(name, cell, rnnvg):
    found = [
        json.loads(rnnvg(*COMMANDS[name], "--cell", cell, "--json", "--device", each).stdout)
        for each in devices.DEVICES
    ]
    assert found[1]["gpu"]
    assert found[1]["deterministic"]
    key, column = ("curve", "log10_gain") if name == "profile" else ("spectrum", "exponent")
    for one, other in zip(found[0][key], found[1][key], strict=True):
        assert other[column] == (one[column] if one[column] is None else pytest.approx(one[column], rel=1e-3, abs=1e-3))


@on_a_gpu
@pytest.mark.parametrize("name", ["why", "theory", "covariance"])
def test_what_profile_adds_is_computed_on_a_gpu_too(name, rnnvg):
    more = ["--wrt", "covariance"] if name == "covariance" else [f"--{name}"]
    assert rnnvg(*COMMANDS["profile"], *more, "--device", "cuda").exit_code == 0


@on_a_gpu
@pytest.mark.parametrize("more", [[], ["--steps", "5", "--pretrain"], ["--remedies", "--steps", "2"]])
def test_depth_is_followed_on_a_gpu(more, rnnvg):
    found = rnnvg("depth", "--depth", "3", "--width", "8", *more, "--device", "cuda")
    assert found.exit_code == 0, found.stderr


@on_a_gpu
def test_advice_and_texts_are_computed_on_a_gpu(rnnvg, tmp_path):
    quick = ["advise", *SMALL, "--steps", "4", "--seeds", "2", "--remedies", "clipping", "--jobs", "1"]
    assert rnnvg(*quick, "--device", "cuda", "--out", tmp_path / "advice").exit_code == 0
    train = [
        "train",
        "--task",
        "next-word",
        "--text",
        "agreement",
        "--hidden",
        "8",
        "--steps",
        "2",
        "--out",
        tmp_path / "run",
    ]
    assert rnnvg(*train, "--device", "cuda").exit_code == 0
    for name in ("influence", "truncation"):
        asked = ["text", name, "--weights", tmp_path / "run", "--text", "agreement", "--words", "20"]
        assert rnnvg(*asked, "--out", tmp_path / name, "--device", "cuda").exit_code == 0


@on_a_gpu
def test_layers_are_trained_one_by_one_on_a_gpu():
    shown = digits().to("cuda")
    network = networks.build(shown.train_x.shape[1], shown.classes, depth=2, width=6, device="cuda")
    assert all(value > 0 for value in training.pretrain(network, shown, steps=3).unexplained)
