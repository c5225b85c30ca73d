"""rnnvg tasks: what must be remembered."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from rnnvg import tasks
from rnnvg.bench import defaults
from rnnvg.cli import options, output
from rnnvg.cli.groups import HelpfulGroup


@click.group(cls=HelpfulGroup, invoke_without_command=True)
@options.as_json
@click.pass_context
def command(context: click.Context) -> None:
    """List the tasks, describe one, or print a worked example.

    \b
    rnnvg tasks list                  every task and the names of its settings
    rnnvg tasks describe adding       where it is from, what its settings mean
    rnnvg tasks show copy --seed 1    one sequence, step by step
    """
    if context.invoked_subcommand is None:
        _list()


@command.command("list")
@options.as_json
def list_() -> None:
    """List every task with the names of its settings."""
    _list()


@command.command()
@click.argument("task", type=options.name(options.TASKS), metavar="TASK")
@options.seed
@options.task_settings
def show(task: str, seed: int, text: str | None, settings: dict[str, Any]) -> None:
    """Print a worked example of TASK."""
    import torch

    name = defaults.task_name(task, text)
    chosen = defaults.task_settings(text, settings)
    table, *paragraphs = tasks.make(name, **chosen).example(torch.Generator().manual_seed(seed)).split("\n\n")
    output.result("\n\n".join([table, *(textwrap.fill(each, output.width()) for each in paragraphs)]))


@command.command()
@click.argument("task", type=options.name(options.TASKS), metavar="TASK")
@options.as_json
def describe(task: str) -> None:
    """Say what TASK is, where it comes from, and what its settings mean."""
    name = defaults.task_name(task, None)
    output.result(_facts(name) if output.as_json() else _fitted(tasks.describe(name), output.width()))


def _list() -> None:
    facts = [_facts(name) for name in tasks.NAMES]
    formatter = click.HelpFormatter(width=output.width())
    formatter.write_dl([(each["task"], f"{each['about']} Settings: {', '.join(each['settings'])}.") for each in facts])
    output.result(facts if output.as_json() else formatter.getvalue().rstrip())


def _facts(name: str) -> dict[str, Any]:
    """A task's name, its first line after that, and its settings with their defaults and meanings."""
    settings = {key: {"default": default, "about": about} for key, (default, about) in tasks.settings(name).items()}
    return {"task": name, "about": tasks.describe(name).split("\n")[2], "settings": settings}


def _fitted(text: str, width: int) -> str:
    """Paragraphs filled to `width`; indented lines are entries of a list, each filled on its own."""
    filled = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        if any(line.startswith(" ") for line in lines):
            filled.append("\n".join(textwrap.fill(line, width, subsequent_indent=" " * 17) for line in lines))
        else:
            filled.append(textwrap.fill(" ".join(lines), width, break_on_hyphens=False))
    return "\n\n".join(filled)
