"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from rnnvg.bench import defaults
from rnnvg.bench.silence import LONGEST_SILENCE
from rnnvg.cli import output
from rnnvg.errors import InputError, check_float, check_int, check_name
from rnnvg.files import ANY, MARKS, check_ours, named_folder
from rnnvg.models.names import INITS, OFFERED
from rnnvg.tasks import NAMES as TASKS
from rnnvg.tasks.imported import is_path

DEVICES, TOKENS = ("cpu", "cuda", "auto"), ("words", "spaces")


class Value(click.ParamType):
    """What an option takes.

    Args:
        name: of such values.
        read: called as read(flag, text), gives the value or raises an InputError that names the flag.
        metavar: what --help writes in the place of a value; None: `name` in capitals.
        complete: what the beginning of a word may be completed to; None: nothing is known.
        several: the text holds names with commas between them.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[str, Any], Any],
        metavar: str | None = None,
        complete: Callable[[str], list[CompletionItem]] | None = None,
        several: bool = False,
    ) -> None:
        self.name, self.read, self.metavar, self.complete, self.several = name, read, metavar, complete, several

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self.read(_flag(param), value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self.complete(incomplete) if self.complete else []


def whole(least: int) -> Value:
    """A whole number of at least `least`."""

    def read(flag: str, value: Any) -> int:
        with suppress(ValueError):
            value = int(value)
        return check_int(flag, value, least=least)

    return Value("integer", read, "N")


def real(above: float, below: float = float("inf")) -> Value:
    """A finite number above `above`, and below `below`."""

    def read(flag: str, value: Any) -> float:
        with suppress(ValueError):
            value = float(value)
        return check_float(flag, value, above=above, below=below)

    return Value("number", read, "X")


def name(known: Sequence[str], several: bool = False, paths: bool = False) -> Value:
    """One of the names in `known`, which a shell can complete.

    Args:
        several: names with commas between them.
        paths: import paths, "package.module:Name", are taken too; what stands there is looked at by whoever uses it.
    """

    def one(flag: str, text: str) -> str:
        return text if paths and is_path(text) else check_name(flag, text, known)

    def read(flag: str, text: str) -> Any:
        if not several:
            return one(flag, text)
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if not names:
            raise InputError(f"`{flag}` is empty. Pass names with commas between them: {','.join(known)}.")
        return tuple(one(flag, each) for each in names)

    def complete(beginning: str) -> list[CompletionItem]:
        before, comma, last = beginning.rpartition(",") if several else ("", "", beginning)
        return [CompletionItem(before + comma + each) for each in known if each.startswith(last)]

    return Value("name", read, "NAME,NAME" if several else "NAME", complete, several)


def _name_or_path(module: str, names: Callable[[Any], Sequence[str]]) -> Value:
    """A name that a module knows, or a path; a shell, which alone imports the module, completes both."""

    def complete(beginning: str) -> list[CompletionItem]:
        known = [each for each in names(importlib.import_module(module)) if each.startswith(beginning)]
        return [CompletionItem(each) for each in known] or [CompletionItem(beginning, type="file")]

    return Value("name or path", lambda flag, text: text, complete=complete)


def _setting(flag: str, text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip() or not value.strip():
        raise InputError(f"`{flag}` takes NAME=VALUE; got {text!r}. For example: --set length=100.")
    return key.strip().replace("-", "_"), _value(value.strip())


def _sources(flag: str, text: str) -> Any:
    if text in ("last", "all"):
        return text
    steps: list[int] = []
    with suppress(ValueError):
        steps = [int(part) for part in text.split(",") if part.strip()]
    if not steps:
        raise InputError(f"`{flag}` takes last, all, a count, or a list such as 10,-1; got {text!r}.")
    return steps if "," in text else steps[0]


TEXT = _name_or_path("rnnvg.text", lambda module: module.NAMES)
BENCHMARK = _name_or_path("rnnvg.bench.grid", lambda module: module.names())
SETTING = Value("setting", _setting, "NAME=VALUE")
# Where the loss is applied: last, all, a count, or a list of steps.
SOURCES = Value("sources", _sources, "STEPS")
# An empty path, which would be the current folder, is refused.
FOLDER = Value("folder", lambda flag, path: named_folder(path, flag))


def new_file(endings: Sequence[str]) -> Value:
    """The path of a file to be written, in a folder that exists, with one of the `endings`."""

    def read(flag: str, text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in endings:
            wanted = endings[0] if len(endings) == 1 else f"one of {', '.join(endings)}"
            raise InputError(f"`{flag}` {str(path)!r} must end in {wanted}.")
        if not path.parent.is_dir():
            raise InputError(
                f"`{flag}` {str(path)!r} is in the folder {str(path.parent)!r}, which does not exist. "
                "Make it, or pass another path."
            )
        # Before anything is computed; of a table its columns are not known yet, and it is looked at again.
        check_ours(path, MARKS.get(path.suffix.lower(), ANY), flag)
        return path

    return Value("file", read)


def _value(text: str) -> Any:
    """A number where it is one, a list where there are commas, otherwise the text.

    >>> _value("100"), _value("5,10"), _value("anywhere"), _value("none")
    (100, [5, 10], 'anywhere', None)
    """
    if "," in text:
        return [_value(part.strip()) for part in text.split(",")]
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _flag(param: click.Parameter | None) -> str:
    return max(param.opts, key=len) if param else "value"


Decorator = Callable[[Any], Any]


def together(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, listed by --help in this order."""

    def decorate(command: Any) -> Any:
        for each in reversed(decorators):
            command = each(command)
        return command

    return decorate


# What `output` says of a command, and no argument of it; eager, for others are read by them.
_kept = {"is_eager": True, "expose_value": False, "callback": output.keep}
_quiet = "No progress and no notes; errors are still shown."
quiet = click.option("-q", "--quiet", is_flag=True, help=_quiet, **_kept)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.", **_kept)
give_up = click.option("--give-up", is_flag=True, help="End runs that look hopeless after a tenth of their steps.")
longest_silence = click.option(
    "--longest-silence",
    type=real(0),
    default=LONGEST_SILENCE,
    metavar="SECONDS",
    help="Give up a run that shows no sign of life for so long, do the others, and leave it to do; it is named after 60.",
)
jobs = click.option(
    "--jobs", type=whole(1), default=2, help="Worker processes; the results are the same for any number."
)
retry_failed = click.option(
    "--retry-failed", is_flag=True, help="Do runs again that failed; their files are set aside."
)
tokens = click.option(
    "--tokens", type=name(TOKENS), help="How files are cut: words or spaces.  [default: as they come]"
)


def csv(what: str) -> Decorator:
    """The option --csv, which writes `what`."""
    return click.option("--csv", metavar="FILE", type=new_file((".csv",)), help=f"Write {what} to a CSV file.")


def figure(what: str, *flags: str) -> Decorator:
    """The option --figure, which draws `what`; `flags` are other names of it."""
    endings = (".png", ".svg", ".pdf")
    return click.option(
        *("--figure", *flags, "figure"),
        metavar="FILE",
        type=new_file(endings),
        help=f"Draw {what}: .png, .svg or .pdf.",
    )


def out(default: str) -> Decorator:
    """The option --out with its default."""
    return click.option(
        "--out", metavar="DIR", type=FOLDER, default=default, help="Directory for the results; made where missing."
    )


def with_root(context: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """The text, with the root of a torchtext dataset behind its name: the callback of whatever goes with `root`."""
    flag = f"{_flag(param)} " if isinstance(param, click.Option) else ""
    if text is not None and not text.strip():
        raise InputError(
            f"`{flag.strip() or 'text'}` is empty. Pass a name, a file or a directory; . is the current one."
        )
    place = output.kept("root")
    if place is not None and not (text or "").startswith("torchtext:"):
        raise InputError(
            f"`--root` is where a torchtext dataset lies; got {flag}{text}. Pass {flag}torchtext:WikiText2."
        )
    return text if place is None else f"{text}@{place}"


root = click.option(
    "--root", metavar="DIR", **_kept, help="Where the files of a torchtext dataset lie.  [default: .data]"
)
text = together(
    click.option(
        "--text",
        metavar="NAME|FILE|DIR",
        type=TEXT,
        callback=with_root,
        help="What next-word reads: agreement (generated), shakespeare, a UTF-8 file, a directory with train, valid and "
        "test files, or torchtext:WikiText2 and the like.  [default: shakespeare where its package is installed, else "
        "agreement]",
    ),
    root,
)


_device = click.option(
    "--device",
    type=name(DEVICES),
    default="cpu",
    help="Where to compute: cpu, cuda, or auto, a GPU where there is one. What a GPU gives says so.",
)


def device(command: Any) -> Any:
    """The option `device`, looked for once every other option has been read, by its name in PyTorch."""

    @functools.wraps(command)
    def on_device(*context: click.Context, device: str, **rest: Any) -> Any:
        return command(*context, device=defaults.training_device(device, output.tell), **rest)

    return _device(on_device)


seed = click.option("--seed", type=whole(0), default=0, help="What weights and sequences are drawn from.")
_settings = together(
    click.option("--length", type=int, metavar="N", help="Steps of a sequence, of adding: --set length=N."),
    click.option("--delay", type=int, metavar="N", help="Steps between symbols and recall, of copy: --set delay=N."),
    click.option(
        "--set",
        "settings",
        type=SETTING,
        multiple=True,
        help="A setting of the task, as often as needed; `rnnvg tasks describe TASK` lists them.",
    ),
)


def task_settings(command: Any) -> Any:
    """The options for a task: `text`, and `settings` by name, where --length and --delay are short for --set."""

    @functools.wraps(command)
    def with_settings(
        *, length: int | None, delay: int | None, settings: Sequence[tuple[str, Any]], **rest: Any
    ) -> Any:
        named = {"length": length, "delay": delay}
        given = {name: value for name, value in named.items() if value is not None}
        return command(settings=given | dict(settings), **rest)

    return text(_settings(with_settings))


which_task = together(
    click.option(
        "--task",
        type=name(TASKS, paths=True),
        help=f"What must be remembered: {', '.join(TASKS)}, or your own as package.module:task.  [default: adding, or "
        "next-word where --text is given]",
    ),
    task_settings,
)
network = together(
    click.option(
        "--cell",
        type=name(OFFERED, paths=True),
        help=f"The cell: {', '.join(OFFERED)}, or your own as package.module:Core.  [default: lstm]",
    ),
    click.option("--hidden", type=whole(1), help="Hidden units a layer.  [default: 64; next-word 128]"),
    click.option("--layers", type=whole(1), help="Recurrent layers.  [default: 1]"),
    click.option("--init", type=name(INITS), help=f"How weights start: {', '.join(INITS)}.  [default: default]"),
    click.option("--t-max", type=whole(2), help="The longest dependency in steps, for --init chrono."),
    click.option(
        "--embed",
        type=whole(1),
        help="Width of the embedding of words, or of a linear encoder for numbers.  [default: as --hidden; no encoder]",
    ),
    click.option("--tied/--untied", default=None, help="Readout and embedding share weights.  [default: in next-word]"),
)
