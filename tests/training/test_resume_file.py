"""A training that is interrupted anywhere and taken up again comes to the same bits."""

import pickle
import warnings

import pytest
import torch
from fake_text import FakeText

from rnnvg import files, models, tasks, training
from rnnvg.errors import InputError
from rnnvg.models import tensorfile

ADDING = tasks.make("adding", length=6)
TEXT = FakeText(words=150)
REAL = tasks.make("next-word", text="agreement", n_words=2000, distance=3, bptt=10)
# Sixty steps of a text are more than one pass over it: the state starts anew within them.
CASES = {
    "adding, Adam": (ADDING, "gru", {}, {}),
    "copy, RMSprop": (tasks.make("copy", delay=4, n_symbols=3), "lstm", {}, {"optimizer": "rmsprop"}),
    "text, dropout, LSTM": (TEXT, "lstm", {"dropout": 0.4, "tied": True}, {"bptt": 4, "batch": 3}),
    "next-word, GRU": (REAL, "gru", {"dropout": 0.1}, {"batch": 8}),
    "text, two layers, decay": (
        TEXT,
        "rnn",
        {"layers": 2, "dropout": 0.2},
        {"decay": 0.5, "optimizer": "sgd", "lr": 20.0},
    ),
}


class Interrupt:
    """Raises KeyboardInterrupt at the n-th call."""

    def __init__(self, at):
        self.at, self.calls = at, 0

    def __call__(self, *_):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt


def interrupt_at(step):
    """Raises KeyboardInterrupt once that many steps are done: calls come by the clock too, steps do not."""

    def on_progress(done, *_):
        if done == step:
            raise KeyboardInterrupt

    return on_progress


def sitting(case, resume=None, seed=5, **more):
    """One sitting of a training from the same start; the model and the result."""
    task, cell, shape, settings = CASES[case]
    torch.manual_seed(seed)
    model = models.build(task, cell, hidden=6, **shape)
    looks = []
    arguments = {
        "steps": 60,
        "batch": 10,
        "eval_every": 7,
        "eval_size": 20,
        "stop_when_solved": False,
        "checkpoints": [0, 10, 40],
        "on_checkpoint": lambda step, _: looks.append(step),
        "generator": torch.Generator().manual_seed(seed),
        "resume": resume,
        **settings,
        **more,
    }
    return model, training.fit(model, task, **arguments), looks


def same(one, two):
    (model, result, _), (other, again, _) = one, two
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert result.history.equals(again.history)
    assert result.score == again.score
    assert (result.steps, result.solved_at, result.status) == (again.steps, again.solved_at, again.status)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "resume.safetensors"


@pytest.mark.parametrize("case", CASES)
def test_interrupted_between_steps_and_taken_up_twice(case, path):
    whole = sitting(case)
    for at in (20, 60):
        with pytest.raises(KeyboardInterrupt):
            sitting(case, path, on_progress=interrupt_at(at))
        torch.rand(100)  # whatever else draws from the global generator in between
    resumed = sitting(case, path)
    same(whole, resumed)
    assert resumed[2] == [60]  # the looks at 0, 10 and 40 were had in the first two sittings
    assert not path.exists()


@pytest.mark.parametrize("case", ["adding, Adam", "text, dropout, LSTM"])
@pytest.mark.parametrize("where", ["forward", "loss", "backward", "score", "checkpoint"])
def test_interrupted_in_the_middle_of_something(case, where, path, monkeypatch):
    whole = sitting(case)
    kind = type(CASES[case][0])
    with monkeypatch.context() as patch:
        more = {}
        if where == "forward":
            inner, fuse = models.SequenceModel.forward, Interrupt(40)
            patch.setattr(models.SequenceModel, "forward", lambda *a: (inner(*a), fuse())[0])
        elif where == "loss":
            inner, fuse = kind.loss, Interrupt(40)
            patch.setattr(kind, "loss", lambda *a: (inner(*a), fuse())[0])
        elif where == "backward":
            inner, fuse = torch.autograd.backward, Interrupt(40)
            patch.setattr(torch.autograd, "backward", lambda *a: (inner(*a), fuse())[0])
        elif where == "score":
            inner, fuse = kind.score, Interrupt(4)
            patch.setattr(kind, "score", lambda *a, **k: (inner(*a, **k), torch.rand(1), fuse())[0])
        else:
            more = {"on_checkpoint": Interrupt(2)}
        with pytest.raises(KeyboardInterrupt):
            sitting(case, path, **more)
    assert path.exists()
    resumed = sitting(case, path)
    same(whole, resumed)
    if where == "checkpoint":
        assert resumed[2] == [10, 40, 60]  # the look that was cut short is had again


def test_interrupted_inside_the_optimisers_update_the_last_file_stands(path, monkeypatch):
    whole = sitting("adding, Adam")
    with pytest.raises(KeyboardInterrupt):
        sitting("adding, Adam", path, on_progress=interrupt_at(20))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        inner, fuse = torch.optim.Adam.step, Interrupt(9)
        patch.setattr(torch.optim.Adam, "step", lambda self: (inner(self), fuse())[0])
        with pytest.raises(KeyboardInterrupt):
            sitting("adding, Adam", path)
    assert path.read_bytes() == before
    same(whole, sitting("adding, Adam", path))


def test_interrupted_while_the_final_score_is_taken(path, monkeypatch):
    whole = sitting("adding, Adam")
    kind = type(CASES["adding, Adam"][0])
    with monkeypatch.context() as patch:
        inner, fuse = kind.score, Interrupt(11)
        patch.setattr(kind, "score", lambda *a, **k: (inner(*a, **k), fuse())[0])
        with pytest.raises(KeyboardInterrupt):
            sitting("adding, Adam", path)
    resumed = sitting("adding, Adam", path)
    same(whole, resumed)
    assert resumed[2] == []


def test_killed_without_a_word_it_goes_on_from_the_last_file(path, monkeypatch):
    whole = sitting("text, dropout, LSTM")

    class Kill(BaseException):
        pass

    def kill(step, *_):
        if step >= 40:
            raise Kill

    with pytest.raises(Kill):
        sitting("text, dropout, LSTM", path, on_progress=kill, resume_every=1e-9)
    _, header = tensorfile.read_tensors(path)
    assert header["progress"]["step"] >= 30
    resumed = sitting("text, dropout, LSTM", path)
    same(whole, resumed)
    assert resumed[1].seconds > header["progress"]["seconds"] > 0


def test_keeping_does_not_change_the_numbers(path):
    same(sitting("text, dropout, LSTM"), sitting("text, dropout, LSTM", path, resume_every=1e-9))
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("foreign", ["garbage", "empty", "pickle", "weights file", "folder"])
def test_what_is_no_resume_file_is_refused_and_left(foreign, path):
    if foreign == "weights file":
        models.save(models.build(ADDING, "gru", hidden=6), path)
    elif foreign == "folder":
        path.mkdir()
        (path / "notes").write_text("mine")
    else:
        path.write_bytes({"garbage": b"x" * 500, "empty": b"", "pickle": pickle.dumps({"step": 3})}[foreign])
    kept = (path / "notes" if foreign == "folder" else path).read_bytes()
    with pytest.raises(InputError) as raised:
        sitting("adding, Adam", path)
    assert str(raised.value) == (
        f"`resume` {str(path)!r} is a folder. Pass the path of a file."
        if foreign == "folder"
        else f"`resume` {str(path)!r} is there already and is no file of this kind that rnnvg wrote. "
        "Move it away, or pass another path."
    )
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert (path / "notes" if foreign == "folder" else path).read_bytes() == kept


def test_damaged_files_never_take_each_others_place(path):
    for content in (b"first", b"second"):
        with pytest.raises(KeyboardInterrupt):
            sitting("adding, Adam", path, on_progress=interrupt_at(20))
        path.write_bytes(path.read_bytes()[:300] + content)
        with pytest.warns(RuntimeWarning, match=r"It was renamed to resume\.safetensors\.corrupt"):
            sitting("adding, Adam", path)
    kept = {each.name: each.read_bytes()[300:] for each in path.parent.iterdir()}
    assert kept == {"resume.safetensors.corrupt": b"first", "resume.safetensors.corrupt-2": b"second"}


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_a_damaged_file_is_set_aside_and_training_starts_again(damage, path):
    whole = sitting("adding, Adam")
    with pytest.raises(KeyboardInterrupt):
        sitting("adding, Adam", path, on_progress=interrupt_at(20))
    contents = path.read_bytes()
    spoiled = {
        "truncated": contents[: len(contents) // 2],
        "one bit": contents[:-9] + bytes([contents[-9] ^ 4]) + contents[-8:],
    }
    path.write_bytes(spoiled[damage])
    bad = path.read_bytes()
    with pytest.warns(RuntimeWarning, match=r"It was renamed to resume\.safetensors\.corrupt; training starts again\."):
        again = sitting("adding, Adam", path)
    same(whole, again)
    assert again[2] == [0, 10, 40, 60]
    assert [each.name for each in path.parent.iterdir()] == ["resume.safetensors.corrupt"]
    assert next(path.parent.iterdir()).read_bytes() == bad


def test_a_file_of_other_settings_is_refused_and_left(path):
    with pytest.raises(KeyboardInterrupt):
        sitting("adding, Adam", path, on_progress=interrupt_at(20))
    before = path.read_bytes()
    with pytest.raises(InputError) as raised:
        sitting("adding, Adam", path, lr=0.25, clip=None)
    assert str(raised.value) == (
        f"`resume` {path} belongs to a training with lr=0.005, clip=1.0, and this one has lr=0.25, clip=None. "
        "Pass another path, or delete the file to start again."
    )
    with pytest.raises(InputError, match="belongs to a training with seed=5, and this one has seed=6"):
        sitting("adding, Adam", path, seed=6)
    assert path.read_bytes() == before


def test_a_full_disk_at_the_interrupt_warns_and_the_interrupt_still_passes(path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with (
        pytest.warns(RuntimeWarning, match="could not be kept in .*No space left on device"),
        pytest.raises(KeyboardInterrupt),
    ):
        sitting("adding, Adam", path, on_progress=interrupt_at(20))
    assert list(path.parent.iterdir()) == []


def test_without_a_path_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        sitting("adding, Adam", on_progress=interrupt_at(20))
    assert list(tmp_path.iterdir()) == []
