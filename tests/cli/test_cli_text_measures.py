"""rnnvg text truncation, statistics and planted: their files and numbers, and every fault in one sentence."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from rnnvg import bench, models, tasks
from rnnvg.cli import text_planted
from rnnvg.text.manifest import data_file

SAMPLE = str(data_file("agreement.txt"))
PLANTED = [
    "text",
    "planted",
    "--cells",
    "gru",
    "--longest",
    6,
    "--words",
    3000,
    "--steps",
    2,
    "--hidden",
    8,
    "--bptt",
    5,
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of next-word as `rnnvg train` leaves it, without the training."""
    folder = tmp_path_factory.mktemp("out") / "runs" / "next-word-made"
    folder.mkdir(parents=True)
    task = tasks.make("next-word", text=SAMPLE, bptt=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(task, "lstm", hidden=8)
    models.save(model, folder / "weights.safetensors", id="made", task={"name": task.name, **task.settings})
    task.vocabulary.save(folder / "vocabulary.json")
    return folder


@pytest.fixture
def in_process(monkeypatch):
    """Runs are done here, one by one: what workers do is tested elsewhere."""
    monkeypatch.setattr(bench, "run_all", lambda specs, out, **_: [bench.execute(spec, out) for spec in specs])


def test_truncation_writes_figure_and_table_and_says_what_is_cut(rnnvg, run, tmp_path):
    result = rnnvg("text", "truncation", "--model", run, "--text", SAMPLE, "--words", 24, "--json", "--out", "here")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["bptt"] == 5
    assert told["device"] == "cpu"
    assert [row["cut"] for row in told["curve"]][5:] == [1.0] * 18
    assert all(row["log10_whole"] is not None for row in told["curve"])
    names = ["truncation.csv", "truncation.png", "truncation.svg"]
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == sorted(told["files"]) == names
    frame = pd.read_csv(tmp_path / "here" / "truncation.csv")
    np.testing.assert_allclose(frame["cut"], [row["cut"] for row in told["curve"]])
    result = rnnvg("text", "truncation", "--model", run, "--text", "agreement", "--words", 24, "--bptt", 30, "-q")
    assert result.exit_code == 0, result.output
    assert "100%" not in result.stdout
    assert "Figure: runs/truncation/truncation.svg" in result.stdout


def test_statistics_have_a_law_and_a_networks_gradient_beside_it(rnnvg, run, tmp_path):
    command = ["text", "statistics", SAMPLE, "--longest", 20, "--model", run, "--out", "here"]
    result = rnnvg(*command, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [row["distance"] for row in told["information"]][:3] == [1, 2, 3]
    assert told["information"][-1]["distance"] == 20
    (curve,) = told["gradients"].values()
    assert curve[0]["log10_gain"] == 0
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        "gradients.csv",
        "information.csv",
        "statistics.png",
        "statistics.svg",
    }
    gradients = pd.read_csv(tmp_path / "here" / "gradients.csv")
    assert set(gradients["network"]) == {"LSTM made"}
    told = rnnvg(*command, "-q").stdout
    assert "LSTM made" in told
    assert "Figure: here/statistics.svg" in told


def test_statistics_of_the_generated_language_show_where_words_are_planted(rnnvg):
    result = rnnvg("text", "statistics", "agreement", "--longest", 12, "--common", 300, "--json", "-q")
    told = {row["distance"]: row["information"] for row in json.loads(result.stdout)["information"]}
    # Sentences are 12 words long: commas and stops come back then.
    assert told[12] > told[8]


def test_planted_has_a_row_a_network_beside_the_best_possible(rnnvg, in_process, monkeypatch, tmp_path):
    monkeypatch.setattr(text_planted, "QUESTION_WORDS", 3000)
    result = rnnvg(*PLANTED, "--out", "here", "-q")
    assert result.exit_code == 0, result.output
    assert "best possible" in result.stdout
    assert "Figure: here/planted.svg" in result.stdout
    networks = pd.read_csv(tmp_path / "here" / "planted_networks.csv")
    assert networks["cell"].tolist() == ["gru"]
    assert (networks["best_loss"] < networks["loss"]).all()
    by_distance = pd.read_csv(tmp_path / "here" / "planted.csv")
    assert set(by_distance["distance"]) == {2, 3, 4, 5, 6}
    # Asked for equally often, whatever the text to learn from has.
    counts = by_distance.set_index("distance")["n"]
    assert counts[6] > 0.6 * counts[2]
    assert {"planted.svg", "planted.png", "planted_information.csv"} <= {
        path.name for path in (tmp_path / "here").iterdir()
    }


def test_a_dataset_of_torchtext_is_read_everywhere(rnnvg, tmp_path):
    pytest.importorskip("torchtext", reason="torchtext is not installed", exc_type=ImportError)
    root = tmp_path / "root"
    root.mkdir()
    for split in ("train", "valid", "test"):
        (root / f"ptb.{split}.txt").write_text(" dog near the forest once , barks . \n" * 30)
    named = ["torchtext:PennTreebank", "--root", "root"]
    result = rnnvg("text", "corpora", *named)
    assert result.exit_code == 0, result.output
    assert "train           270 words, 0.0% of them unknown" in result.stdout
    assert rnnvg("text", "statistics", *named, "--longest", 8, "-q").exit_code == 0
    trained = rnnvg(
        "train", "--text", *named, "--hidden", 4, "--steps", 1, "--batch", 2, "--out", "out", "--json", "-q"
    )
    assert trained.exit_code == 0, trained.output
    weights = json.loads(trained.stdout)["weights"]
    result = rnnvg("text", "influence", "--model", weights, "--text", *named, "--words", 9, "--json", "-q")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["words"] == ["dog", "near", "the", "forest", "once", ",", "barks", ".", "<eos>"]
    assert rnnvg("text", "corpora", "here.txt", "--root", "root").stderr == (
        "Error: `--root` is where a torchtext dataset lies; got here.txt. Pass torchtext:WikiText2.\n"
    )
    assert rnnvg("text", "corpora", "torchtext:WikiText2", "--root", "root").stderr == (
        "Error: The dataset 'WikiText2' is not under 'root'; put wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens "
        "into 'root/wikitext-2/wikitext-2', or pass its root.\n"
    )
    assert rnnvg("text", "corpora", "torchtext:WikiText").stderr == (
        "Error: `text` has no 'WikiText'. Did you mean 'WikiText2'? Pass one of: WikiText2, WikiText103, PennTreebank.\n"
    )


BAD = {
    "empty.txt": (b"", "The text 'bad' is empty: it holds no words; pass a file with text in it."),
    "one.txt": (b"dog", "The text 'bad' holds 1 word and none to train on; pass a longer text."),
    "binary": (b"dog \x00\x01", "'bad' is not a text: byte 4 is NUL; pass a UTF-8 text file."),
    "latin": (b"dog caf\xe9 ", "The text 'bad' is not UTF-8 at byte 7 (0xe9); save it as UTF-8."),
}


@pytest.mark.parametrize("which", BAD)
@pytest.mark.parametrize(
    "command", [["text", "corpora", "bad"], ["train", "--text", "bad"], ["profile", "--text", "bad"]]
)
def test_bad_texts_are_one_sentence_everywhere(rnnvg, tmp_path, command, which):
    content, message = BAD[which]
    (tmp_path / "bad").write_bytes(content)
    result = rnnvg(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: {message}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_directories_caps_and_strange_splits_are_one_sentence(rnnvg, tmp_path):
    (tmp_path / "here").mkdir()
    assert rnnvg("train", "--text", "here").stderr == (
        "Error: The directory 'here' has no train file; name it as one of: ptb.train.txt, wiki.train.tokens, "
        "wiki.train.raw, train.txt.\n"
    )
    for split, words in (("train", "a b c "), ("valid", "a b c "), ("test", "x y z ")):
        (tmp_path / "here" / f"{split}.txt").write_text(words * 40)
    assert rnnvg("train", "--text", "here", "--set", "vocabulary=1").stderr == (
        "Error: `vocabulary` must be a whole number of at least 2; got 1.\n"
    )
    assert rnnvg("train", "--text", "here").stderr == (
        "Error: The text 'here' has no word to test on that is in the vocabulary of 4; pass a larger `vocabulary`, or "
        "splits in the same language.\n"
    )
    assert rnnvg("text", "statistics", "here", "--longest", 13).stderr == (
        "Error: `--longest` of 13 is too far for the 120 words of 'here'; pass at most 12.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_run_without_its_vocabulary_is_one_sentence(rnnvg, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "vocabulary.json").unlink()
    (tmp_path / "text.txt").write_text("dog near the forest")
    for command in (
        ["influence", "--text", "text.txt"],
        ["truncation", "--text", "text.txt"],
        ["statistics", SAMPLE, "--longest", 9],
    ):
        result = rnnvg("text", *command, "--model", "run", "--out", "here")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            "Error: The run 'run' has no vocabulary.json, so that the words behind its ids are unknown; put the file back, "
            "or train again.\n"
        )
    assert not (tmp_path / "here").exists()


def test_windows_of_named_texts_end_with_the_text(rnnvg, run):
    result = rnnvg("text", "truncation", "--model", run, "--text", "agreement", "--start", 19_999)
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: The test part of 'agreement' holds 20000 words, and the window begins at word 19999; pass a start of at "
        "most 19998.\n"
    )
    assert rnnvg("text", "truncation", "--model", run, "--text", SAMPLE, "--words", 501).stderr == (
        "Error: `--words` must be a whole number from 2 to 500; got 501.\n"
    )


def test_a_line_of_a_million_words_is_a_text(rnnvg, tmp_path):
    (tmp_path / "text.txt").write_text("dog barks " * 500_000)
    told = json.loads(rnnvg("text", "corpora", "text.txt", "--json").stdout)
    assert sum(split["words"] for split in told["splits"].values()) == 1_000_000
