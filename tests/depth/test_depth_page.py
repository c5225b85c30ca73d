"""The whole story on a tiny budget, its figures by their artists, its words by their numbers, and the command line."""

import dataclasses
import json
import math
import re
import struct

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from shared_pages import PAGES

from rnnvg.bptt.threads import OneThread
from rnnvg.cli import depth as depth_command
from rnnvg.cli import main
from rnnvg.depth import activations, chain, kept, networks, training
from rnnvg.depth import story as stories
from rnnvg.depth.names import CHAIN_ACTIVATIONS
from rnnvg.depth.planted import PLANTED
from rnnvg.depth.remedies import REMEDIES
from rnnvg.report import depth_cures, depth_figures, depth_page, depth_tables, depth_words, style
from rnnvg.tasks.images import digits

pytestmark = PAGES


def call(*arguments):
    return CliRunner().invoke(main, ["depth", *map(str, arguments)])


@pytest.fixture
def story(depth_run):
    return depth_run.story


def test_the_story_holds_every_part(story):
    assert set(story.treated) == set(REMEDIES)
    assert set(story.diagnoses) == set(PLANTED) == set(depth_cures.VERDICTS)
    assert {name for name, _ in story.chains} == set(CHAIN_ACTIVATIONS)
    assert set(story.starts) == set(networks.INITS) == set(depth_figures.INIT_COLOURS)
    assert story.treated["faster-hardware"].training.steps == 80
    assert [run.cell for run in story.cells] == ["rnn", "lstm", "gru"]
    np.testing.assert_allclose(story.blocks.loc[story.blocks["zero_last"], "measured"], 1, atol=1e-5)
    np.testing.assert_allclose(story.widths["measured"], story.widths["textbook"], atol=math.log10(3))


def test_figures_show_what_was_measured(story):
    with style.applied():
        chains = depth_figures.chains(story)
        remedies = depth_cures.remedies(story)
        through = depth_cures.through_training(story)
        cells = depth_cures.cells(story)
    sigmoid = story.chains["sigmoid", 20].to_frame()
    drawn = {line.get_label(): line for line in chains.axes[0].lines}
    relative = sigmoid["log10_gradient"] - sigmoid["log10_gradient"].iloc[-1]
    np.testing.assert_allclose(drawn["what happens"].get_ydata(), relative)
    np.testing.assert_allclose(drawn["largest slopes alone, 0.25 a layer"].get_ydata()[-2], math.log10(0.25))
    labels = [tick.get_text() for tick in remedies.axes[0].get_yticklabels()]
    assert labels == [each.change for each in REMEDIES.values()]
    accuracy = [float(line.get_xdata()[0]) for line in remedies.axes[1].lines]
    assert accuracy == [each.training.accuracy for each in story.treated.values()]
    assert len(through.axes[0].lines) == 4
    curve = story.cells[0].start.curve()
    np.testing.assert_allclose(cells.axes[0].lines[0].get_ydata(), curve["log10_gain"])


@pytest.mark.parametrize("chapter", [depth_page.FINDING, *depth_page.CHAPTERS], ids=lambda each: each.name)
def test_every_figure_has_axes_that_say_what_they_are(story, chapter):
    with style.applied():
        figure = chapter.draw(story)
    assert all(ax.get_xlabel() or ax.get_shared_x_axes().get_siblings(ax) for ax in figure.axes)
    assert any(ax.get_ylabel() or ax.get_yticklabels() for ax in figure.axes)
    assert all(ax.has_data() for ax in figure.axes)


def test_the_page_is_one_file_that_needs_nothing_else(depth_run):
    path = depth_run.folder / "depth.html"
    page = path.read_text()
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert "<script src" not in page
    assert path.stat().st_size < 3_000_000
    names = [chapter.name for chapter in (depth_page.FINDING, *depth_page.CHAPTERS)]
    assert page.count("<figure>") == len(names)
    order = [page.index(f'<section id="{name}"') for name in names]
    assert order == sorted(order)
    for name in names:
        assert (path.parent / "figures" / f"depth-{name}.svg").is_file()
        assert (path.parent / "figures" / f"depth-{name}.png").is_file()
    assert (path.parent / "tables" / "depth-remedies.csv").read_text().startswith("remedy,change,predicted,")
    for remedy in REMEDIES.values():
        assert f">{remedy.change}</td>" in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_words_say_what_came_out(story):
    cured = dataclasses.replace(
        story.treated["relu-he"], training=dataclasses.replace(story.treated["relu-he"].training, accuracy=0.95)
    )
    told = dataclasses.replace(story, treated={**story.treated, "relu-he": cured})
    assert any("To 90% accuracy or more: ReLU and He weights." in each for each in depth_words.remedies(told))
    assert not any("To 90%" in each for each in depth_words.remedies(story))
    uncured = next(each for each in depth_words.remedies(told) if each.startswith("Not a cure"))
    assert REMEDIES["relu-he"].change not in uncured.replace(REMEDIES["leaky-relu-he"].change, "")
    assert REMEDIES["leaky-relu-he"].change in uncured
    solved = dataclasses.replace(story, cells=tuple(dataclasses.replace(run, solved_at=7) for run in story.cells))
    assert depth_words.cells(solved) == ["RNN (tanh) (step 7), LSTM (step 7) and GRU (step 7) solved it."]
    assert depth_words.cells(story) == ["RNN (tanh), LSTM and GRU did not in 12 steps."]
    diverging = [dataclasses.replace(each, status="diverged", steps=3) for each in story.clipped]
    assert "diverges at step 3" in depth_words.clipping(dataclasses.replace(story, clipped=tuple(diverging)))[0]


def test_options_are_those_of_the_library():
    assert tuple(activations.ACTIVATIONS) == depth_command.ACTIVATIONS
    assert tuple(chain._FUNCTIONS) == depth_command.CHAIN_ACTIVATIONS
    assert tuple(networks.INITS) == depth_command.INITS
    assert tuple(networks.NORMS) == depth_command.NORMS
    assert networks.RESIDUALS == depth_command.RESIDUALS
    assert tuple(training.OPTIMIZERS) == depth_command.OPTIMIZERS


def test_the_command_prints_chain_and_network():
    told = call("--layers", 30, "--depth", 4, "--width", 16)
    assert told.exit_code == 0, told.stderr
    assert told.stderr == ""
    assert told.stdout.startswith("A chain of 30 sigmoid neurons, w = 0.17: dL/dw of the first is ")
    assert "4 layers, 16 wide (sigmoid, gaussian, norm none, residual none) on digits" in told.stdout
    assert "Diagnosis: tiny-initialisation: " in told.stdout
    assert told.stdout.isascii()


def test_json_with_training_and_pretraining():
    told = json.loads(call("--depth", 3, "--width", 16, "--steps", 30, "--pretrain", "--clip", 1, "--json").stdout)
    assert len(told["chain"]["layers"]) == 20
    assert told["chain"]["residual"] < 1e-12
    network = told["network"]
    assert network["predicted"] is None
    assert network["steps"] == 30
    assert 0 <= network["accuracy"] <= 1
    assert len(network["layers"]) == 3
    assert "log10_weight_after" in network["layers"][0]


def test_an_activation_without_a_chain_is_told():
    told = call("--activation", "gelu", "--depth", 2, "--width", 8)
    assert told.exit_code == 0
    assert told.stderr == "The chain is drawn for sigmoid, tanh, relu; left out for gelu.\n"
    assert told.stdout.startswith("2 layers, 8 wide (gelu")


def test_idx_files_from_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "t10k"):
        images = rng.integers(0, 256, (40, 3, 3)).astype(np.uint8)
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">BBBB3I", 0, 0, 8, 3, 40, 3, 3) + images.tobytes()
        )
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(
            struct.pack(">BBBBI", 0, 0, 8, 1, 40) + (np.arange(40) % 2).astype(np.uint8).tobytes()
        )
    told = call("--data", tmp_path, "--images", 20, "--depth", 2, "--width", 8)
    assert told.exit_code == 0, told.stderr
    assert f"on {tmp_path.name}:" in told.stdout


def test_the_report_from_the_command_line(depth_run):
    assert depth_run.said.exit_code == 0, depth_run.said.stderr
    assert depth_run.said.stdout == f"Report: {depth_run.folder / 'depth.html'}\n"
    lines = depth_run.said.stderr.splitlines()
    parts = len(REMEDIES) + 6
    assert lines[0] == f"1 of {parts}: at the start"
    assert lines[1 : 1 + len(REMEDIES)] == [
        f"{place} of {parts}: remedy {name}" for place, name in enumerate(REMEDIES, start=2)
    ]
    assert lines[-2] == f"{parts} of {parts}: cell gru"
    assert re.fullmatch(r"Measured in \d+ seconds\.", lines[-1])


def test_remedies_from_the_command_line():
    told = call("--remedies", "--depth", 3, "--width", 8, "--steps", 2, "--json")
    assert told.exit_code == 0, told.stderr
    assert told.stderr.splitlines()[2] == f"3 of {len(REMEDIES)}: clipping"
    assert [row["remedy"] for row in json.loads(told.stdout)] == list(REMEDIES)
    assert {row["device"] for row in json.loads(told.stdout)} == {"cpu"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--depth", 0), "`--depth` must be a whole number of at least 1; got 0."),
        (("--width", 0), "`--width` must be a whole number of at least 1; got 0."),
        (("--layers", 0), "`--layers` must be a whole number of at least 1; got 0."),
        (
            ("--activation", "rely"),
            "`--activation` has no 'rely'. Did you mean 'relu'? Pass one of: sigmoid, tanh, relu, leaky-relu, prelu, elu, "
            "selu, gelu.",
        ),
        (("--weight", "nan"), "`--weight` must be a finite number; got nan."),
        (
            ("--report", "--activation", "relu"),
            "`--activation` is for one network; --report has its own. Leave out one of the two.",
        ),
        (
            ("--remedies", "--out", "x"),
            "`--out` is for one network; --remedies has its own. Leave out one of the two.",
        ),
        (("--out", "x"), "`--out` is for --report. Pass that too, or leave it out."),
        (("--clip", 1), "`--clip` is for training. Pass --steps too, for example --steps 400."),
        (("--images", 5), "`--images` is for a folder of IDX files; the digits are few. Leave it out."),
        (("--data", "/nowhere"), "`folder` '/nowhere' is not a folder; pass the one that holds the IDX files."),
        (
            ("--zero-last",),
            "`zero_last` zeroes the last gain of a residual block; got residual='none' and norm='none'. Pass "
            "residual='block' with norm='batch' or 'layer'.",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments, message):
    told = call(*arguments)
    assert told.exit_code == 2
    assert told.stdout == ""
    assert told.stderr == f"Error: {message}\n"


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    told = call("--report", "--out", tmp_path / "file" / "page")
    assert told.exit_code == 2
    assert told.stderr.startswith("Error: `out` ")
    assert " of " not in told.stderr


class KilledError(Exception):
    pass


def arrays(value):
    """Everything that can be compared, times apart: a story as plain numbers."""
    if dataclasses.is_dataclass(value):
        names = [each.name for each in dataclasses.fields(value) if each.compare and each.name != "seconds"]
        return {name: arrays(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {name: arrays(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [arrays(each) for each in value]
    if hasattr(value, "to_dict"):
        return arrays({name: list(value[name]) for name in value.columns})
    return repr(value.tolist() if hasattr(value, "tolist") else value)


def test_what_is_done_survives_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "BLOCKS", (5,))
    options = {"depth": 3, "width": 8, "steps": 4}
    images = digits()
    whole = stories.measure(images, **options)
    heard = []

    def until(place):
        def tell(words):
            heard.append(words)
            if words.startswith(f"{place} of "):
                raise KilledError

        return tell

    with pytest.raises(KilledError):
        stories.measure(images, directory=tmp_path, on_progress=until(9), **options)
    assert len(list((tmp_path / "parts").iterdir())) == 8
    (tmp_path / "parts" / "remedy-none.json").write_text('{"made_from": half a file')
    heard.clear()
    found = stories.measure(images, directory=tmp_path, on_progress=heard.append, **options)
    assert heard[0] == f"1 of {len(REMEDIES) + 6}: at the start (kept)"
    assert heard[8] == f"9 of {len(REMEDIES) + 6}: remedy elu-xavier"
    assert arrays(found) == arrays(whole)
    # Other settings make every part anew.
    other = stories.measure(images, directory=tmp_path, **{**options, "seed": 1})
    assert arrays(other.treated) != arrays(found.treated)
    stories.forget_parts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_thread_inside_and_the_callers_number_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KilledError), OneThread():
            assert torch.get_num_threads() == 1
            raise KilledError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_only_known_types_are_kept(tmp_path):
    with pytest.raises(TypeError, match="a set cannot be kept"):
        kept.Kept(tmp_path, {}, ()).get("part", lambda: {1, 2})


def test_a_chapter_says_at_most_two_sentences(story):
    for chapter in (depth_page.FINDING, *depth_page.CHAPTERS):
        said = chapter.sentences(story)
        assert len(re.findall(r"[.!?](?= |$)", " ".join(said))) <= 2, said
    assert all(chapter.caption and chapter.alt for chapter in depth_page.CHAPTERS)


def test_tables_hold_what_was_measured(story):
    (start,) = depth_page.FINDING.tables(story)
    rows = {row[0]: row[1:] for row in start.rows}
    sick = story.treated["none"]
    assert rows[REMEDIES["none"].change][0] == depth_words.exact(sick.measured)
    assert rows[REMEDIES["none"].change][2] == f"{sick.training.accuracy:.0%}"
    estimates, layers = depth_tables.chains(story)
    line = story.chains["sigmoid", 20].to_frame()
    left = line["log10_gradient"].iloc[0] - line["log10_gradient"].iloc[-1]
    assert estimates.rows[0] == ["what happens", depth_words.exact(left)]
    assert len(layers.rows) == 20
    (clipped,) = depth_tables.clipping(story)
    assert [row[0] for row in clipped.rows] == ["vanishing", "exploding"]
    initialisations, _, blocks = depth_tables.starts(story)
    assert len(initialisations.rows) == len(networks.INITS)
    assert [row[0] for row in blocks.rows] == ["5", "20"]
