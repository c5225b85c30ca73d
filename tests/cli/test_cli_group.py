import importlib
import os
import subprocess
import sys

import click
import pytest
import torch

from rnnvg import __version__, models, tasks
from rnnvg.cli import COMMANDS, main, options

HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "matplotlib",
    "seaborn",
    "pydantic",
    "scipy",
    "dask",
    "distributed",
    "tqdm",
    "jinja2",
}


def every_command(command=main, path=("rnnvg",)):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from every_command(command.get_command(context, name), (*path, name))


EVERY = list(every_command())


def loaded_by(code, **environment):
    """Which heavy packages a fresh Python has loaded after `code`."""
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=True
    )
    return HEAVY & set(done.stderr.split()), done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["compar"], ["compare", "--jobs", "0"]])
def test_nothing_heavy_is_loaded_before_it_is_needed(arguments):
    heavy, _ = loaded_by(f"from rnnvg.cli import main; main({arguments!r})")
    assert heavy == set()


def test_no_command_loads_anything_heavy_to_show_its_help():
    calls = [[*path[1:], "--help"] for path, _ in EVERY]
    shown = "; ".join(f"main({call!r}, standalone_mode=False)" for call in calls)
    heavy, stdout = loaded_by(f"from rnnvg.cli import main; {shown}")
    assert (heavy, stdout.count("Usage: ")) == (set(), len(EVERY))


def test_rooms_list_their_names_without_torch():
    rooms = ("", ".advise", ".bench", ".depth", ".functional", ".models", ".text", ".training")
    heavy, _ = loaded_by("; ".join(f"import rnnvg{room}; dir(rnnvg{room})" for room in rooms))
    assert heavy == set()


@pytest.mark.parametrize("room", ["", ".advise", ".bench", ".depth", ".functional", ".models", ".text", ".training"])
def test_every_listed_name_is_found(room):
    module = importlib.import_module(f"rnnvg{room}")
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
    assert set(module.__all__) <= set(dir(module))


def test_a_shell_completes_without_loading_anything_heavy():
    words = "from rnnvg.cli import main; main(prog_name='rnnvg')"
    heavy, commands = loaded_by(words, _RNNVG_COMPLETE="bash_complete", COMP_WORDS="rnnvg co", COMP_CWORD="1")
    assert (heavy, commands) == (set(), "plain,compare\n")
    heavy, cells = loaded_by(
        words, _RNNVG_COMPLETE="bash_complete", COMP_WORDS="rnnvg compare --cells rnn,ls", COMP_CWORD="3"
    )
    assert (heavy, cells) == (set(), "plain,rnn,lstm\n")


def test_help_lists_every_command_with_its_line(rnnvg):
    shown = rnnvg("--help")
    assert shown.exit_code == 0
    for name, (_, about) in COMMANDS.items():
        assert f"  {name:<9} {about}" in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_list_is_the_first_line_of_the_commands_own_help(name):
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert (command.help or "").split("\n")[0] == COMMANDS[name][1]


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_every_command_and_option_is_documented(path, command):
    assert command.help
    assert command.help.split("\n")[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.opts}"
        else:
            assert parameter.make_metavar(click.Context(command)) in command.help


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_help_fits_80_columns(path, command, rnnvg, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = rnnvg(*path[1:], "--help")
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_names_that_a_shell_is_offered_are_those_of_the_library():
    from rnnvg.models import initialisers, own_cells, sequence_model
    from rnnvg.models import names as cells

    assert set(models.CELLS) == set(sequence_model.CORES) == set(cells.OFFERED[:4])
    assert set(models.EVERY_CELL) == set(cells.OFFERED) == {*sequence_model.CORES, *own_cells.OWN}
    assert set(models.INITS) == set(initialisers.INITIALISERS)
    assert set(options.TASKS) == set(tasks.NAMES)
    from rnnvg.training import names
    from rnnvg.training.fit import OPTIMIZERS

    assert set(names.OPTIMIZERS) == set(OPTIMIZERS)
    assert all(issubclass(kind, torch.optim.Optimizer) for kind in OPTIMIZERS.values())


def test_version(rnnvg):
    assert rnnvg("--version").stdout == f"rnnvg {__version__}\n"


def test_without_a_command_the_help_is_shown(rnnvg):
    shown = rnnvg()
    assert shown.exit_code == 2
    assert "Commands:" in shown.stderr
    assert shown.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence", "path"),
    [
        (["compar"], "rnnvg has no command 'compar'. Did you mean 'compare'? It has: {all}.", "rnnvg"),
        (["xyzzy"], "rnnvg has no command 'xyzzy'. It has: {all}.", "rnnvg"),
        (
            ["tasks", "shwo"],
            "rnnvg tasks has no command 'shwo'. Did you mean 'show'? It has: describe, list, show.",
            "rnnvg tasks",
        ),
    ],
)
def test_an_unknown_command_names_the_nearest(rnnvg, arguments, sentence, path):
    told = rnnvg(*arguments)
    assert told.exit_code == 2
    assert told.stderr == f"Error: {sentence.format(all=', '.join(COMMANDS))}\nTry: {path} --help\n"
    assert told.stdout == ""


def test_an_unknown_option_names_the_command_to_ask(rnnvg):
    told = rnnvg("compare", "--sedes", 3)
    assert told.exit_code == 2
    assert told.stderr.startswith("Error: No such option")
    assert "--seeds" in told.stderr
    assert told.stderr.endswith("\nTry: rnnvg compare --help\n")
