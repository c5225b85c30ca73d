"""Makes docs/gallery.md and its figures from real runs: every figure with the commands that draw it.

    python scripts/make_gallery.py [--only NAME] [--keep DIR]

Figures are drawn by the commands as they stand on the page, in one folder, in their order. With `--keep` the folder stays, and
what is done already is not done again. All of it takes about 200 seconds of CPU; its processes give way to others, and each
reads the source of the package when it starts, so leave that unchanged meanwhile. The
page has every figure that was drawn.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Entry:
    """One figure: its name, a title, what it shows, the commands, the file they leave, and the page that explains it.

    A figure that another page has and a script draws in its own time is shown as that page has it.
    """

    name: str
    title: str
    text: str
    commands: tuple[str, ...]
    figure: str
    page: str
    elsewhere: bool = False

    @property
    def picture(self) -> str:
        """The figure's file, from the folder of the page on."""
        return self.figure if self.elsewhere else f"gallery/{self.name}.png"


ENTRIES = (
    Entry(
        "curves",
        "Gradient against distance, before and after training",
        "Three networks on one task, three seeds each. Before training all of them vanish; the gated ones open as they learn.",
        ("rnnvg compare --tasks adding --seeds 3 --out runs/adding",),
        "runs/adding/figures/gradient-against-distance.png",
        "functional.md",
    ),
    Entry(
        "opening",
        "When the horizon opens",
        "The memory horizon at each checkpoint of training, with the loss over it.",
        ("rnnvg compare --tasks adding --seeds 3 --out runs/adding",),
        "runs/adding/figures/horizon-through-training.png",
        "functional.md",
    ),
    Entry(
        "architectures",
        "Ten architectures, one task, one axis",
        "From a vanilla RNN to attention: the gradient by the input before and after training, one seed each (nine minutes).",
        ("python scripts/architectures.py OUT",),
        "architectures.png",
        "architectures.md",
        elsewhere=True,
    ),
    Entry(
        "profile",
        "One network as it starts",
        "An LSTM with chrono initialisation, whose gates start mostly open. The band is the spread over sequences.",
        ("rnnvg profile --cell lstm --length 100 --init chrono --figure chrono.png",),
        "chrono.png",
        "engine.md",
    ),
    Entry(
        "sources",
        "Every loss on its own",
        "Source by time: a row is a loss, a column the step that its gradient reaches.",
        ("rnnvg profile --cell gru --length 40 --sources all --figure sources.png",),
        "sources.png",
        "engine.md",
    ),
    Entry(
        "why",
        "What takes the gradient",
        "An untrained LSTM: through which path the gradient arrives, and what would bring more.",
        ("rnnvg profile --cell lstm --length 50 --why --theory --figure why.png",),
        "why.png",
        "dynamics.md",
    ),
    Entry(
        "spectrum",
        "Lyapunov spectrum",
        "Rates at which perturbations grow or die, nats a step, largest first.",
        ("rnnvg lyapunov --cell gru --length 50 --hidden 32 --figure spectrum.png",),
        "spectrum.png",
        "dynamics.md",
    ),
    Entry(
        "influence",
        "Which words a prediction leans on",
        "A language model of a text in which a noun decides a verb four words later.",
        (
            "rnnvg train --text agreement --set distance=4 --cell lstm --hidden 64 --steps 600 --out runs/words",
            "rnnvg text influence --model runs/words --text agreement --words 40 --out runs/influence",
        ),
        "runs/influence/influence.png",
        "text.md",
    ),
    Entry(
        "statistics",
        "What there is to remember in a text",
        "Mutual information of two words against the distance between them.",
        ("rnnvg text statistics agreement --longest 50 --out runs/statistics",),
        "runs/statistics/*.png",
        "text.md",
    ),
    Entry(
        "advise",
        "Remedies, tried and measured again",
        "How far the horizon moves with each remedy, paired by seed.",
        ("rnnvg advise --quick --out runs/advise",),
        "runs/advise/figures/advise-remedies.png",
        "advise.md",
    ),
    Entry(
        "depth",
        "The same problem through layers",
        "A deep network whose gradient vanishes, and the same with each remedy: gradient, accuracy and time.",
        ("rnnvg depth --report --out runs/depth",),
        "runs/depth/figures/depth-remedies.png",
        "layers.md",
    ),
)


def run(command: str, folder: Path) -> None:
    """One command line of the package in `folder`, its messages shown; where it ends early, how to go on."""
    program, *words = shlex.split(command)
    assert program == "rnnvg"
    print(f"$ {command}", flush=True)
    command_line = ["nice", "-n", "10", sys.executable, "-m", "rnnvg", *words]
    status = subprocess.run(command_line, cwd=folder, stdout=subprocess.DEVNULL, check=False).returncode
    if status:
        raise SystemExit(
            f"`{command}` ended with exit status {status} before its figure was drawn. What is done is kept; to go on: "
            f"python scripts/make_gallery.py --keep {folder}"
        )


def page(entries: tuple[Entry, ...]) -> str:
    """The page's text."""
    parts = [
        "# Gallery",
        "",
        "Every figure here was drawn by the commands below it (`python scripts/make_gallery.py`).",
        "",
    ]
    for entry in entries:
        parts += [
            f"## {entry.title}",
            "",
            entry.text,
            "",
            f"![{entry.title}]({entry.picture})",
            "",
            "```shell",
        ]
        parts += [*entry.commands, "```", "", f"More: [{entry.page.removesuffix('.md')}]({entry.page})", ""]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="name of one entry")
    parser.add_argument("--keep", type=Path, help="folder to work in, kept afterwards")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    (DOCS / "gallery").mkdir(exist_ok=True)
    done: set[str] = set()
    for entry in ENTRIES:
        if entry.elsewhere or given.only not in (None, entry.name):
            continue
        for command in entry.commands:
            if command not in done:
                run(command, folder)
                done.add(command)
        found = sorted(folder.glob(entry.figure))
        if not found:
            raise SystemExit(f"{entry.name}: no file {entry.figure} after its commands")
        shutil.copyfile(found[0], DOCS / "gallery" / f"{entry.name}.png")
    drawn = tuple(entry for entry in ENTRIES if (DOCS / entry.picture).exists())
    (DOCS / "gallery.md").write_text(page(drawn), encoding="utf-8")
    if given.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
