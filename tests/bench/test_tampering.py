"""Directories of results that were edited, cut or spoiled: a sentence and no traceback, and no more memory than is stated."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import tampering

LOOK = [["bench", "status", "DIR"], ["bench", "compare", "DIR", "GOOD"]]
WHOLE = [*LOOK, ["report", "DIR", "-q"], ["bench", "resume", "DIR", "-q", "--jobs", "1"]]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tampering.make(tmp_path_factory.mktemp("damage") / "out")


def test_a_tampered_directory_is_read_without_a_traceback(results, tmp_path):
    faults = []
    for damage in tampering.draw(results, 60):
        text = tampering.read(damage.copy(results, tmp_path), LOOK, results)
        faults += [f"{damage}\n{text}"] if text else []
    assert not faults, "\n".join(faults)


def test_a_share_meets_every_kind_of_damage_and_of_file(results):
    every = tampering.draw(results, 300)
    chosen = tampering.share(every, 30)
    assert len({*chosen}) == 30
    assert {*tampering.KINDS, "result.json", "recall.csv", "resume.safetensors"} < set().union(*(e.met for e in chosen))


def read_all(*arguments):
    # A process of its own, of which every child starts with the same few modules and nothing of other tests.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(tampering.read_all, *arguments).result()


@pytest.mark.acceptance
@pytest.mark.timeout(900)
def test_300_tamperings_of_a_directory_are_read(results, tmp_path):
    jobs = [(damage, LOOK) for damage in tampering.draw(results, 300)]
    faults, most, _ = read_all(results, tmp_path, jobs, 60)
    assert not faults, "\n".join(faults)
    assert most[0] < 500e6, most


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_a_tenth_of_300_tamperings_is_reported_compared_and_resumed(results, tmp_path):
    jobs = [(damage, WHOLE) for damage in tampering.share(tampering.draw(results, 300), 30)]
    faults, most, _ = read_all(results, tmp_path, jobs, 200)
    assert not faults, "\n".join(faults)
    assert most[0] < 1e9, most
