"""Groups of commands: one that knows what was meant, and the one of `rnnvg` itself, which imports a command when it is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from rnnvg.cli.exits import in_one_sentence
from rnnvg.errors import nearest
from rnnvg.faults import check_memory_limit


class HelpfulGroup(click.Group):
    """A click.Group that names the nearest command where there is none of the name."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name, known = args[0], self.list_commands(ctx)
        if name in known or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        guess = nearest(name, known)
        hint = f"Did you mean {guess!r}? " if guess else ""
        raise click.UsageError(f"{ctx.command_path} has no command {name!r}. {hint}It has: {', '.join(known)}.", ctx)


class LazyGroup(HelpfulGroup):
    """Knows its commands by name and one line, imports one when it is asked for, and tells faults in one sentence.

    Args:
        commands_in: name -> the module that holds the command as `command`, and the line for the list of commands.
    """

    def __init__(self, *args: Any, commands_in: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_in = commands_in

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_in:
            return None
        return importlib.import_module(self.commands_in[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self.commands_in.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        items = [
            CompletionItem(name, help=about)
            for name, (_, about) in self.commands_in.items()
            if name.startswith(incomplete)
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        command = [info_name or "", *args]
        with in_one_sentence(command):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[__name__] = command
        return context

    def invoke(self, ctx: click.Context) -> Any:
        command = ctx.meta[__name__]
        with in_one_sentence(command):
            if not {"--help", "-h"} & set(command):
                check_memory_limit()
            return super().invoke(ctx)
