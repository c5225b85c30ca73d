"""Loops of small operations are not spread over threads: at each one every thread waits for the slowest.

On an idle machine that wins or loses a few percent. Beside other busy processes each wait lasts until the scheduler comes
round again, and a loop of a thousand products takes many times as long as on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

# Multiplications of a step's largest product up to which it is too small to share: some 40 microseconds of one core.
SMALL_WORK = 2**21


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread inside; the caller's number of threads is put back afterwards, whatever happens.

    The number belongs to the calling thread. Only a thread that starts in the meantime begins with the one set here.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def threads_for(work: int, device: torch.device) -> AbstractContextManager[None]:
    """`one_thread` on a CPU where `work` multiplications an operation are too few to share, else nothing; once."""
    return one_thread() if device.type == "cpu" and work <= SMALL_WORK else nullcontext()
