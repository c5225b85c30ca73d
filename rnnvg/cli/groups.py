"""Groups of commands, and how a command ends when it cannot go on: one sentence on stderr and an exit status.

The group of `rnnvg` itself imports a command when it is run. No traceback for anything that a user can cause and mend; a bug
is not caught and shows its own.
"""

from __future__ import annotations

import importlib
import io
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from rnnvg.cli.output import colour, note
from rnnvg.errors import InputError, WorkersLostError, nearest
from rnnvg.faults import check_memory_limit, fault_of, is_memory

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


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


@contextmanager
def in_one_sentence(command: Sequence[str]) -> Iterator[None]:
    """Turns what a user can mend into a sentence and an exit status.

    Args:
        command: the whole command line, named where it can be taken up again.

    Raises:
        click.exceptions.Exit: 1 where no worker is left, 2 for bad usage, bad input and a disk that cannot be written, 130
            for an interruption, 0 where the reader of the output went away.
    """
    _replace_what_cannot_be_encoded()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            with _ends_like_an_interrupt():
                yield
            sys.stdout.flush()
        except InputError as error:
            _end(str(error), BAD_INPUT)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else command[0]
            _end(f"{error.format_message()}{_comma_hint(error, command)}\nTry: {path} --help", BAD_INPUT)
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                click.echo(err=True)  # after the terminal's ^C
            note(f"Interrupted; what is done is kept. To go on: {shlex.join(command)}")
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever was reading has seen enough.
            raise click.exceptions.Exit(0) from None
        except OSError as error:
            if (sentence := fault_of(error)) is None:
                raise
            _end(sentence, BAD_INPUT)
        except WorkersLostError as error:
            _end(str(error), FAILED)
        except (MemoryError, RuntimeError, ImportError, SystemError) as error:
            if not is_memory(error):
                raise
            _end("There is not enough memory for this. Pass smaller sizes, or fewer of them at a time.", BAD_INPUT)


@contextmanager
def _ends_like_an_interrupt() -> Iterator[None]:
    """Ends a request to end, or a terminal that went away, as Ctrl-C does: resume files, no claims left, how to go on."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # nohup has it ignored: then it stays so.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(sentence: str, status: int) -> NoReturn:
    click.echo(click.style("Error: ", fg="red") + sentence, err=True, color=colour())
    raise click.exceptions.Exit(status) from None


def _comma_hint(error: click.UsageError, command: Sequence[str]) -> str:
    """What was probably meant by `--cells lstm gru`, where names go together with commas; "" where it was not that."""
    match = re.search(r"unexpected extra arguments? \((.*)\)", error.format_message())
    if match is None or error.ctx is None:
        return ""
    words, extra = list(command), match[1].split()
    several = {flag for each in error.ctx.command.params for flag in each.opts if getattr(each.type, "several", False)}
    for at, word in enumerate(words[:-1]):
        rest = words[at + 2 : at + 2 + len(extra)]
        if word in several and rest and set(rest) <= set(extra):
            names = ",".join(part.strip(",") for part in words[at + 1 : at + 2] + rest)
            return f". Names go together with commas: {word} {names}."
    return ""


def _replace_what_cannot_be_encoded() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    note(f"Warning: {message}")
