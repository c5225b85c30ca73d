"""What every test shares."""

import os
import random
import signal

import lighter
import numpy as np
import pytest
import shared_pages
from hypothesis import settings

# The tests run side by side already; threads that wait for each other on the same cores would slow all of them.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# A deadline by the clock fails on a busy machine; tests assert results.
settings.register_profile("rnnvg", deadline=None)
settings.load_profile("rnnvg")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process that a test starts and
# interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Fixtures of a conftest are found by every test.
comparison_page, depth_run = shared_pages.comparison_page, shared_pages.depth_run


@pytest.fixture
def one_figure():
    with lighter.one_figure():
        yield


@pytest.fixture
def worker_here():
    with lighter.worker_here():
        yield


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers whatever ran before it: one that fails, fails again."""
    import torch  # after the number of threads is set

    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
