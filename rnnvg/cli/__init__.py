"""The command line: one command a file, each a call into the library, loaded when it is asked for.

`rnnvg --help` needs the names and one line each, which stand here; neither torch nor pandas nor matplotlib is loaded
before a command needs them.
"""

from __future__ import annotations

import click

from rnnvg import __version__
from rnnvg.cli.groups import LazyGroup
from rnnvg.cli.output import colour

# Name -> the module that holds it, as `command`, and what it is for.
COMMANDS = {
    "compare": ("rnnvg.cli.compare", "Train RNN, LSTM and GRU, follow their gradients, write the report."),
    "profile": ("rnnvg.cli.one_profile", "One network, one curve: the gradient left at each distance."),
    "train": ("rnnvg.cli.train", "Train one network on one task."),
    "bench": ("rnnvg.cli.bench", "Run benchmarks from files; stop them, go on, compare."),
    "tasks": ("rnnvg.cli.tasks", "List the tasks, describe one, or print a worked example."),
    "lyapunov": ("rnnvg.cli.lyapunov", "One network's Lyapunov exponents: rates of growth and decay."),
    "report": ("rnnvg.cli.report", "Render a directory of results again, without training."),
    "depth": ("rnnvg.cli.depth", "Follow gradients through layers: chains, networks, remedies."),
    "advise": ("rnnvg.cli.advise", "Apply the known remedies to a network and measure again."),
    "text": ("rnnvg.cli.text", "Read a corpus, or show which earlier words a prediction leans on."),
}


@click.group(
    name="rnnvg",
    cls=LazyGroup,
    commands_in=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
@click.version_option(__version__, prog_name="rnnvg", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """rnnvg measures how far back in time a recurrent network's learning signal reaches.

    Results go to stdout, everything else to stderr. Exit status: 0 done, 1 a run failed, 2 bad usage or bad input,
    130 interrupted.
    """
    context.color = colour()
