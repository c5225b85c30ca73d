"""Loops of small operations are not spread over threads: at each one every thread waits for the slowest.

On an idle machine that wins or loses a few percent. Beside other busy processes each wait lasts until the scheduler comes
round again, and a loop of a thousand products takes many times as long as on one thread.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

# Multiplications of a step's largest product up to which it is too small to share: some 40 microseconds of one core.
SMALL_WORK = 2**21


class OneThread:
    """PyTorch with one thread inside; the caller's number of threads is put back afterwards, whatever happens.

    The number belongs to the calling thread. Only a thread that starts in the meantime begins with the one set here.
    One object serves many times, but not inside itself.
    """

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        if self._threads > 1:
            torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        if self._threads > 1:
            torch.set_num_threads(self._threads)


_AS_IT_IS: AbstractContextManager[None] = nullcontext()


def threads_for(work: int, device: torch.device) -> AbstractContextManager[None]:
    """`OneThread` on a CPU where `work` multiplications an operation are too few to share, else nothing."""
    if device.type == "cpu" and work <= SMALL_WORK and torch.get_num_threads() > 1:
        return OneThread()
    return _AS_IT_IS
