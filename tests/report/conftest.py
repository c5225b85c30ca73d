from pathlib import Path

import pytest
from synthetic_results import write_results

from rnnvg.report import results


@pytest.fixture(scope="session")
def directory(tmp_path_factory) -> Path:
    """Three tasks, three cells, three seeds; on next-word one run diverged and one failed. Not to be written to."""
    return write_results(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="session")
def comparison(directory) -> results.Results:
    return results.read(directory)
