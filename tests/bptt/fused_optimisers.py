"""Optimisers that write the weights without a version, where PyTorch has them for the CPU."""

from contextlib import contextmanager

import pytest
import torch


@contextmanager
def skipped_without_fused():
    """Skips the test where the fused optimiser made or used inside does not exist; PyTorch 2.3 has none for the CPU."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "supported devices" not in str(error) and "'CPU' backend" not in str(error):
            raise
        pytest.skip(f"PyTorch {torch.__version__} does not have this fused optimiser for the CPU")
