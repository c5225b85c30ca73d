"""Every snippet of the README, run in its order in one empty folder, as a reader would."""

import glob
import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from rnnvg.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Blocks in `shell` set something up, and are not run; those in `sh` are.
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


def command_lines():
    return [line for text in blocks("sh") for line in text.splitlines() if line and not line.startswith("#")]


def test_each_of_the_three_uses_has_snippets_that_are_run():
    assert {kind for kind, _ in BLOCKS} == {"shell", "sh", "toml", "python"}
    assert len(command_lines()) >= 5
    assert len(blocks("python")) >= 3
    sections = re.split(r"^## ", README, flags=re.MULTILINE)
    assert [title for title in (text.split("\n")[0] for text in sections) if title.startswith("Use it")] == [
        "Use it from the command line",
        "Use it as a benchmark",
        "Use it in your own code",
    ]


def test_command_lines(folder, monkeypatch, worker_here):
    monkeypatch.chdir(folder)
    for line in command_lines():
        program, *words = shlex.split(line)
        assert program == "rnnvg", line
        # What a shell would do with a pattern.
        arguments = [each for word in words for each in (sorted(glob.glob(word)) if "*" in word else [word])]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, f"{line}: {done.output}"
        assert done.stdout, line
    assert (folder / "curve.png").stat().st_size > 10_000
    assert (folder / "runs/small/report.html").is_file()


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python(number, folder, monkeypatch, capsys, one_figure, worker_here):
    monkeypatch.chdir(folder)
    for text in blocks("toml"):
        (folder / text.split("\n")[0].removeprefix("# ")).write_text(text)
    script = folder / f"snippet_{number}.py"
    script.write_text(blocks("python")[number])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README))
def test_what_it_shows_and_links_is_there(path):
    assert (ROOT / path).is_file()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", "\n".join(blocks("shell"))):
        assert f"\n{target}:" in makefile


def test_completion_lines_are_clicks_own(monkeypatch):
    for shell in ("bash", "zsh", "fish"):
        assert f"_RNNVG_COMPLETE={shell}_source rnnvg" in README
        monkeypatch.setenv("_RNNVG_COMPLETE", f"{shell}_source")
        told = CliRunner().invoke(main, [], prog_name="rnnvg")
        assert told.exit_code == 0
        assert "_RNNVG_COMPLETE" in told.stdout


def test_lines_are_short():
    assert [line for line in README.splitlines() if len(line) > 120 and not line.startswith("![")] == []
