"""rnnvg text: the page and its files from a run and a text, and every bad text in one sentence with nothing written."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from rnnvg import bench
from rnnvg.bench import trained
from rnnvg.functional import context_loss
from rnnvg.text.lexicon import NOUNS, VERBS
from rnnvg.text.manifest import data_file

SENTENCE = "dog near the forest once , barks . cat under the old tree , purrs ."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    spec = bench.run_spec(
        {"name": "next-word", "text": str(data_file("agreement.txt")), "bptt": 5},
        "lstm",
        hidden=8,
        training={"steps": 2, "batch": 4, "stop_when_solved": False},
        measure={"sequences": 2},
    )
    assert bench.execute(spec, out)["status"] == "ok"
    return out / "runs" / spec.id


def test_a_page_a_figure_and_tables_are_written(rnnvg, run, tmp_path):
    (tmp_path / "text.txt").write_text(SENTENCE * 3)
    result = rnnvg("text", "influence", "--model", run, "--text", "text.txt", "--words", 20, "--start", 3)
    assert result.exit_code == 0, result.output
    assert result.stderr == "Reading 20 words of text.txt ...\n"
    assert "Page: runs/influence/influence.html" in result.stdout
    folder = tmp_path / "runs" / "influence"
    assert {path.name for path in folder.iterdir()} == {
        "context.csv",
        "influence.csv",
        "influence.html",
        "influence.png",
        "influence.svg",
    }
    frame = pd.read_csv(folder / "influence.csv", keep_default_na=False)
    assert len(frame) == 19 * 20 / 2
    assert frame["word"].iloc[0] == "once"
    assert frame["source_word"].iloc[0] == "forest"


def test_json_has_the_files_and_the_curve(rnnvg, run, tmp_path):
    (tmp_path / "text.txt").write_text(SENTENCE)
    result = rnnvg("text", "influence", "--model", run, "--text", "text.txt", "--json", "--out", "here", "-q")
    assert result.stderr == ""
    told = json.loads(result.stdout)
    assert told["files"]["influence.html"] == "here/influence.html"
    assert [row["distance"] for row in told["curve"]] == list(range(1, 16))
    assert told["curve"][0]["log10_gain"] == 0
    assert len(told["loss"]) == 15
    assert told["device"] == "cpu"


def test_html_in_a_text_is_shown_and_never_run(rnnvg, run, tmp_path):
    (tmp_path / "text.txt").write_text("dog <script>alert(1)</script> , barks . </button>\n")
    result = rnnvg("text", "influence", "--model", run, "--text", "text.txt", "--tokens", "spaces", "--out", "here")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "here" / "influence.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</button>" in page
    assert page.count("<script") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The text 'text.txt' is empty: it holds no words; pass a file with text in it."),
        (b" -- \n", "The text 'text.txt' is empty: it holds no words; pass a file with text in it."),
        (b"dog", "The text 'text.txt' holds 1 word; pass one with at least 2, one to read and one to predict."),
        (b"dog \xff barks", "The text 'text.txt' is not UTF-8 at byte 4 (0xff); save it as UTF-8."),
        (b"dog \x00 barks", "'text.txt' is not a text: byte 4 is NUL; pass a UTF-8 text file."),
        (
            b"zxqv wrtp",
            "None of the 2 words of 'text.txt' is among the 251 that the model knows; "
            "pass a text in the language that it was trained on.",
        ),
    ],
)
def test_bad_texts_are_one_sentence_and_nothing_is_overwritten(rnnvg, run, tmp_path, content, message):
    (tmp_path / "text.txt").write_bytes(content)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "influence.html").write_text("older")
    result = rnnvg("text", "influence", "--model", run, "--text", "text.txt", "--out", "here", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {message}\n")
    assert [path.read_text() for path in (tmp_path / "here").iterdir()] == ["older"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "."], "The text '.' is a directory; pass a UTF-8 text file."),
        (["--text", "none"], "The text 'none' is not there; pass a UTF-8 text file."),
        (["--words", "501"], "`--words` must be a whole number from 2 to 500; got 501."),
        (["--words", "1"], "`--words` must be a whole number of at least 2; got 1."),
        (
            ["--start", "15"],
            "The text 'text.txt' holds 16 words, and the window begins at word 15; pass a start of at most 14.",
        ),
        (["--tokens", "word"], "`--tokens` has no 'word'. Did you mean 'words'? Pass one of: words, spaces."),
    ],
)
def test_bad_options_are_one_sentence(rnnvg, run, tmp_path, options, message):
    (tmp_path / "text.txt").write_text(SENTENCE)
    result = rnnvg("text", "influence", "--model", run, "--text", "text.txt", "-q", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {message}\n")
    assert not (tmp_path / "runs").exists()


def test_a_line_of_a_million_words_is_read_no_further_than_shown(rnnvg, run, tmp_path):
    (tmp_path / "text.txt").write_text("dog barks " * 500_000)
    result = rnnvg("text", "influence", "--model", run, "--text", "text.txt", "--words", 5, "--start", 100, "-q")
    assert result.exit_code == 0, result.output


def test_the_root_of_a_torchtext_dataset_goes_with_its_name(rnnvg, tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"ptb.{split}.txt").write_text(" the cat sat \n" * 20)
    result = rnnvg("tasks", "show", "next-word", "--text", "torchtext:PennTreebank", "--root", "root")
    assert result.exit_code == 0, result.output
    assert "<eos>" in result.stdout
    result = rnnvg("tasks", "show", "next-word", "--text", "here.txt", "--root", "root")
    assert result.stderr == (
        "Error: `--root` is where a torchtext dataset lies; got --text here.txt. Pass --text torchtext:WikiText2.\n"
    )


def test_corpora_says_what_a_text_holds(rnnvg, tmp_path):
    for split, words in (("train", "a b a c "), ("valid", "a d "), ("test", "b a d d ")):
        (tmp_path / f"{split}.txt").write_text(words * 5)
    result = rnnvg("text", "corpora", ".", "--vocabulary", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].endswith(": 3 different words are known.")
    assert lines[2:5] == [
        "train            20 words, 25.0% of them unknown",
        "valid            10 words, 50.0% of them unknown",
        "test             20 words, 50.0% of them unknown",
    ]
    told = json.loads(rnnvg("text", "corpora", ".", "--vocabulary", 3, "--json").stdout)
    assert told["splits"]["test"] == {"words": 20, "unknown": 10}
    assert told["provenance"]["tokens"] == "words"
    assert rnnvg("text", "corpora", ".", "--vocabulary", 1).stderr == (
        "Error: `--vocabulary` must be a whole number of at least 2; got 1.\n"
    )


@pytest.mark.parametrize("distance", [4, [3, 6]], ids=str)
def test_a_generated_text_is_read_in_the_language_of_the_run(rnnvg, tmp_path, distance):
    # Verbs decided at another distance are another language, on which the loss increase says nothing.
    task = {"name": "next-word", "text": "agreement", "distance": distance, "n_words": 2000, "bptt": 10}
    training = {"steps": 2, "batch": 4, "stop_when_solved": False}
    spec = bench.run_spec(task, "gru", hidden=8, training=training, measure={"sequences": 2})
    assert bench.execute(spec, tmp_path)["status"] == "ok"
    run = tmp_path / "runs" / spec.id
    result = rnnvg("text", "influence", "--weights", run, "--text", "agreement", "--words", 60, "--json", "-q")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    words = shown["words"]
    placed = [words.index(VERBS[NOUNS.index(word)], at) - at for at, word in enumerate(words[:-10]) if word in NOUNS]
    assert len(placed) > 4
    assert set(placed) == set([distance] if isinstance(distance, int) else distance)

    model = trained.language_model(run)
    ids = model.vocabulary.encode(words)
    expected = context_loss(model.model, ids, generator=torch.Generator().manual_seed(0)).to_frame()
    for told in (pd.DataFrame(shown["context"]), pd.read_csv(tmp_path / "runs" / "influence" / "context.csv")):
        np.testing.assert_allclose(told["increase"], expected["increase"], rtol=1e-4, atol=1e-6)
    assert shown["loss"] == pytest.approx(read_loss(model.model, ids), rel=1e-4)


def read_loss(model, ids):
    """Nats of every word but the first, a step of the network at a time."""
    with torch.no_grad():
        scores, _ = model(torch.as_tensor(ids)[:-1, None])
    return torch.nn.functional.cross_entropy(scores[:, 0], torch.as_tensor(ids)[1:].long(), reduction="none").tolist()
