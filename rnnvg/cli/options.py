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


class Whole(click.ParamType):
    """A whole number of at least `least`."""

    name = "integer"

    def __init__(self, least: int) -> None:
        self.least = least

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        with suppress(ValueError):
            value = int(value)
        return check_int(_flag(param), value, least=self.least)


class Real(click.ParamType):
    """A finite number above `above`, and below `below`."""

    name = "number"

    def __init__(self, above: float, below: float = float("inf")) -> None:
        self.above, self.below = above, below

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        with suppress(ValueError):
            value = float(value)
        return check_float(_flag(param), value, above=self.above, below=self.below)


class Name(click.ParamType):
    """One of the names in `known`, which a shell can complete.

    Args:
        known: the names.
        several: names with commas between them.
        paths: import paths, "package.module:Name", are taken too; what stands there is looked at by whoever uses it.
    """

    name = "name"

    def __init__(self, known: Sequence[str], several: bool = False, paths: bool = False) -> None:
        self.known, self.several, self.paths = known, several, paths

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME,NAME" if self.several else "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not self.several:
            return self._checked(_flag(param), value)
        names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        if not names:
            raise InputError(f"`{_flag(param)}` is empty. Pass names with commas between them: {','.join(self.known)}.")
        return tuple(self._checked(_flag(param), name) for name in names)

    def _checked(self, flag: str, name: str) -> str:
        return name if self.paths and is_path(name) else check_name(flag, name, self.known)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        return [CompletionItem(before + comma + name) for name in self.known if name.startswith(last)]


class NameOrPath(click.ParamType):
    """A name that rnnvg knows, or a path; a shell completes both.

    Args:
        names: gives the known names when a shell asks for them.
    """

    name = "name or path"

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        self.names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]
        return known or [CompletionItem(incomplete, type="file")]


def _text_names() -> Sequence[str]:
    return importlib.import_module("rnnvg.text").NAMES


def _benchmark_names() -> Sequence[str]:
    return importlib.import_module("rnnvg.bench.grid").names()


TEXT, BENCHMARK = NameOrPath(_text_names), NameOrPath(_benchmark_names)


class Setting(click.ParamType):
    """One task setting, name=value."""

    name = "setting"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, sign, text = value.partition("=")
        if not sign or not name.strip() or not text.strip():
            raise InputError(f"`{_flag(param)}` takes NAME=VALUE; got {value!r}. For example: --set length=100.")
        return name.strip().replace("-", "_"), _value(text.strip())


class Sources(click.ParamType):
    """Where the loss is applied: last, all, a count, or a list of steps."""

    name = "sources"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "STEPS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("last", "all"):
            return value
        try:
            steps = [int(part) for part in value.split(",") if part.strip()]
        except ValueError:
            steps = []
        if not steps:
            raise InputError(f"`{_flag(param)}` takes last, all, a count, or a list such as 10,-1; got {value!r}.")
        return steps if "," in value else steps[0]


class Folder(click.ParamType):
    """The path of a folder; an empty one, which would be the current folder, is refused."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return named_folder(value, _flag(param))


class NewFile(click.ParamType):
    """The path of a file to be written, in a folder that exists, with one of the `endings`."""

    name = "file"

    def __init__(self, endings: Sequence[str]) -> None:
        self.endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.suffix.lower() not in self.endings:
            wanted = self.endings[0] if len(self.endings) == 1 else f"one of {', '.join(self.endings)}"
            raise InputError(f"`{_flag(param)}` {str(path)!r} must end in {wanted}.")
        if not path.parent.is_dir():
            raise InputError(
                f"`{_flag(param)}` {str(path)!r} is in the folder {str(path.parent)!r}, which does not exist. "
                "Make it, or pass another path."
            )
        # Before anything is computed; of a table its columns are not known yet, and it is looked at again.
        check_ours(path, MARKS.get(path.suffix.lower(), ANY), _flag(param))
        return path


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


# What `output.quiet` and `output.as_json` say; no argument of the command.
quiet = click.option(
    *("-q", "--quiet"),
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=output.keep,
    help="No progress and no notes; errors are still shown.",
)
as_json = click.option(
    *("--json", "as_json"),
    is_flag=True,
    expose_value=False,
    callback=output.keep,
    help="Print the result as JSON.",
)
give_up = click.option("--give-up", is_flag=True, help="End runs that look hopeless after a tenth of their steps.")
longest_silence = click.option(
    "--longest-silence",
    type=Real(0),
    default=LONGEST_SILENCE,
    metavar="SECONDS",
    help="Give up a run that shows no sign of life for so long, do the others, and leave it to do; it is named after 60.",
)
jobs = click.option(
    "--jobs", type=Whole(1), default=2, help="Worker processes; the results are the same for any number."
)
retry_failed = click.option(
    "--retry-failed", is_flag=True, help="Do runs again that failed; their files are set aside."
)
tokens = click.option(
    "--tokens", type=Name(TOKENS), help="How files are cut: words or spaces.  [default: as they come]"
)


def csv(what: str) -> Decorator:
    """The option --csv, which writes `what`."""
    return click.option("--csv", metavar="FILE", type=NewFile((".csv",)), help=f"Write {what} to a CSV file.")


def figure(what: str, *flags: str) -> Decorator:
    """The option --figure, which draws `what`; `flags` are other names of it."""
    endings = (".png", ".svg", ".pdf")
    return click.option(
        *("--figure", *flags, "figure"), metavar="FILE", type=NewFile(endings), help=f"Draw {what}: .png, .svg or .pdf."
    )


def out(default: str) -> Decorator:
    """The option --out with its default."""
    return click.option(
        "--out", metavar="DIR", type=Folder(), default=default, help="Directory for the results; made where missing."
    )


_ROOT = f"{__name__}.root"


def _keep_root(context: click.Context, param: click.Parameter, root: str | None) -> None:
    context.meta[_ROOT] = root


def with_root(context: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """The text, with the root of a torchtext dataset behind its name: the callback of whatever goes with `root`."""
    flag = f"{_flag(param)} " if isinstance(param, click.Option) else ""
    if text is not None and not text.strip():
        raise InputError(
            f"`{flag.strip() or 'text'}` is empty. Pass a name, a file or a directory; . is the current one."
        )
    place = context.meta.get(_ROOT)
    if place is not None and not (text or "").startswith("torchtext:"):
        raise InputError(
            f"`--root` is where a torchtext dataset lies; got {flag}{text}. Pass {flag}torchtext:WikiText2."
        )
    return text if place is None else f"{text}@{place}"


root = click.option(
    "--root",
    metavar="DIR",
    is_eager=True,
    expose_value=False,
    callback=_keep_root,
    help="Where the files of a torchtext dataset lie.  [default: .data]",
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


def _there(context: click.Context, param: click.Parameter, device: str) -> str:
    return device if context.resilient_parsing else defaults.training_device(device, output.tell)


device = click.option(
    "--device",
    type=Name(DEVICES),
    default="cpu",
    callback=_there,
    help="Where to compute: cpu, cuda, or auto, a GPU where there is one. What a GPU gives says so.",
)
seed = click.option("--seed", type=Whole(0), default=0, help="What weights and sequences are drawn from.")
_settings = together(
    click.option("--length", type=int, metavar="N", help="Steps of a sequence, of adding: --set length=N."),
    click.option("--delay", type=int, metavar="N", help="Steps between symbols and recall, of copy: --set delay=N."),
    click.option(
        "--set",
        "settings",
        type=Setting(),
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
        type=Name(TASKS, paths=True),
        help=f"What must be remembered: {', '.join(TASKS)}, or your own as package.module:task.  [default: adding, or "
        "next-word where --text is given]",
    ),
    task_settings,
)
network = together(
    click.option(
        "--cell",
        type=Name(OFFERED, paths=True),
        help=f"The cell: {', '.join(OFFERED)}, or your own as package.module:Core.  [default: lstm]",
    ),
    click.option("--hidden", type=Whole(1), help="Hidden units a layer.  [default: 64; next-word 128]"),
    click.option("--layers", type=Whole(1), help="Recurrent layers.  [default: 1]"),
    click.option("--init", type=Name(INITS), help=f"How weights start: {', '.join(INITS)}.  [default: default]"),
    click.option("--t-max", type=Whole(2), help="The longest dependency in steps, for --init chrono."),
    click.option(
        "--embed",
        type=Whole(1),
        help="Width of the embedding of words, or of a linear encoder for numbers.  [default: as --hidden; no encoder]",
    ),
    click.option("--tied/--untied", default=None, help="Readout and embedding share weights.  [default: in next-word]"),
)
