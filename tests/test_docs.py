"""Every snippet of the pages in docs/: `python` and `sh` blocks run in their order in a folder of their own, `py` parses."""

import ast
import glob
import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import rnnvg
from rnnvg.cli import main

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run(page, tmp_path, monkeypatch, one_figure, worker_here):
    monkeypatch.chdir(tmp_path)
    for number, (kind, text) in enumerate(BLOCK.findall(text_of(page))):
        if kind == "python":
            script = tmp_path / f"snippet_{number}.py"
            script.write_text(text, encoding="utf-8")
            runpy.run_path(str(script), run_name="__main__")
        elif kind == "py":
            ast.parse(text)
        elif kind == "toml":
            (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")
        elif kind == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                run(line)


def run(line):
    """One command line as a shell would run it."""
    program, *words = shlex.split(line, comments=True) or [""]
    if not program:
        return
    assert program == "rnnvg", line
    arguments = [each for word in words for each in (sorted(glob.glob(word)) if "*" in word else [word])]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{line}: {done.output}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", BLOCK.sub("", text_of(page))):
        assert (DOCS / link).exists(), link


def test_every_public_name_has_a_place_in_the_reference():
    listed = set(re.findall(r"^   ([\w.]+)$", text_of("api/index.md"), flags=re.MULTILINE))
    modules = {
        "advise",
        "bench",
        "bptt",
        "depth",
        "functional",
        "horizon",
        "models",
        "report",
        "tasks",
        "text",
        "training",
    }
    assert set(rnnvg.__all__) - listed - modules == set()
