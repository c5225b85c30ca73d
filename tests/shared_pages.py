"""Pages that take seconds to draw, for every test that looks at one; `PAGES` keeps those tests in one process."""

from functools import partial
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

PAGES = pytest.mark.xdist_group("pages")


@pytest.fixture(scope="session")
def depth_run(tmp_path_factory):
    """One run of `rnnvg depth --report`: what it measured, what it said, and the folder that it wrote."""
    from rnnvg.cli import main
    from rnnvg.depth import story
    from rnnvg.report import picture

    folder, kept, measure = tmp_path_factory.mktemp("depth") / "new", [], story.measure
    command = ["depth", "--report", "--depth", "4", "--width", "16", "--steps", "8", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "BLOCKS", (5, 20))
        patch.setattr(picture, "to_bytes", partial(picture.to_bytes, dpi=40))
        patch.setattr(story, "measure", lambda *a, **k: kept.append(measure(*a, **k)) or kept[0])
        said = CliRunner().invoke(main, command)
    return SimpleNamespace(story=kept[0], said=said, folder=folder)


@pytest.fixture(scope="session")
def comparison_page(tmp_path_factory):
    """The report of two tasks, two cells and two seeds."""
    from synthetic_results import write_results

    from rnnvg import report

    where = write_results(tmp_path_factory.mktemp("shown"), tasks=("copy", "adding"), cells=("rnn", "lstm"), seeds=2)
    return report.write(where)
