"""write(): files, the same bytes twice, and one sentence where it cannot."""

import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from synthetic_results import write_results

from rnnvg import report
from rnnvg.bench.store import Store
from rnnvg.errors import InputError

NAMES = [
    "every-source",
    "exponents-through-training",
    "gradient-against-distance",
    "horizon-through-training",
    "loss-curves",
    "memory-horizons",
    "theory-at-initialisation",
    "why-it-vanishes",
]


pytestmark = pytest.mark.xdist_group("report write")  # one process draws the small one


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One task, two cells, two seeds; with its report."""
    where = write_results(tmp_path_factory.mktemp("small"), tasks=("adding",), cells=("rnn", "gru"), seeds=2)
    report.write(where)
    return where


def written(where):
    return {str(path.relative_to(where)): path.read_bytes() for path in where.rglob("*") if path.is_file()}


def test_it_writes_a_page_figures_and_tables(small):
    files = written(small)
    wanted = {"report.html", *(f"figures/{name}.{kind}" for name in NAMES for kind in ("svg", "png"))}
    wanted |= {f"tables/{name}.csv" for name in ("horizons", "scores", "settings", "paired")}
    before = {"curves.csv", "training.csv", "horizons.csv"} | {name for name in files if name.startswith("runs/")}
    assert set(files) == wanted | before
    assert len(files["report.html"]) < 3_000_000


def test_it_says_where(small, tmp_path, capsys, one_figure):
    small = shutil.copytree(small, tmp_path / "small")
    assert report.write(small, quiet=False) == small / "report.html"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"Report: {small / 'report.html'}\n"


def test_the_same_results_give_the_same_bytes(small, tmp_path):
    again = shutil.copytree(small, tmp_path / "again")
    for name in ("figures", "tables"):
        shutil.rmtree(again / name)
    (again / "report.html").unlink()
    code = "import sys; from rnnvg import report; report.write(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(again)], check=True)
    assert written(again) == written(small)


def test_svg_files_carry_no_date_and_png_files_open(small):
    for name in NAMES:
        assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\dT", (small / f"figures/{name}.svg").read_text())
        with Image.open(small / f"figures/{name}.png") as image:
            assert image.width >= 800


def test_more_results_change_the_report(small, tmp_path, one_figure):
    more = shutil.copytree(small, tmp_path / "more")
    write_results(more, tasks=("copy",), cells=("rnn", "gru"), seeds=1)
    report.write(more)
    assert "Copy memory" in (more / "report.html").read_text()


def test_a_directory_without_results_is_refused_and_left_alone(tmp_path):
    with pytest.raises(InputError, match=r"holds no results. Run `rnnvg compare --out .*` first"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(small, tmp_path, one_figure):
    blocked = shutil.copytree(small, tmp_path / "blocked", ignore=shutil.ignore_patterns("figures"))
    (blocked / "figures").write_text("mine")
    with pytest.raises(InputError) as error:
        report.write(blocked)
    assert str(error.value) == f"`out` {str(blocked)!r} is not a folder. Pass another --out; what is done is kept."
    assert (blocked / "figures").read_text() == "mine"


def test_results_that_are_all_failures_still_make_a_report(tmp_path):
    from rnnvg.bench.record import failure, record
    from rnnvg.bench.spec import RunSpec

    store = Store(tmp_path)
    spec = RunSpec.model_validate({"task": {"name": "adding", "length": 50}, "cell": "gru", "hidden": 8})
    outcome, files = failure(spec, "MemoryError: none left")
    store.publish(record(spec, outcome), files)
    store.merge()
    assert "MemoryError: none left" in report.write(tmp_path).read_text()


def test_importing_the_room_loads_nothing_heavy():
    code = "import sys, rnnvg.report; print(sorted({'matplotlib', 'seaborn', 'scipy', 'torch', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
