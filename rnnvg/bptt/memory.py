"""Large blocks of memory on the CPU, taken again by the next call instead of from the operating system.

Fresh pages cost a call as much as its arithmetic: filling 49 MB for the first time takes 3 to 10 times as long as filling it
again. A block comes back when the last tensor over it is gone, never before, whoever holds that tensor and on whatever
thread. What lies here unused is bounded, and is let go of after some seconds.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

LEAST_BYTES = 2**22  # smaller blocks an allocator keeps itself
MOST_BYTES = 2**27  # unused, all of them together
IDLE_SECONDS = 3.0


class Pool:
    """Blocks that nobody uses now. Every method may be called from any thread."""

    def __init__(self, most_bytes: int = MOST_BYTES, idle_seconds: float = IDLE_SECONDS) -> None:
        self.most_bytes, self.idle_seconds = most_bytes, idle_seconds
        self._lock = threading.Lock()
        self._free: list[tuple[float, np.ndarray]] = []  # the time since when, and the block; the latest last
        # Blocks come back wherever Python drops the last tensor, be it inside a method here: that waits for no lock.
        self._back: deque[np.ndarray] = deque()
        self._lent = 0
        self._sweeper: threading.Thread | None = None

    def empty(self, like: Tensor, size: int) -> Tensor:
        """An uninitialised tensor [size] of the dtype and device of `like`."""
        n_bytes = size * like.element_size()
        if like.device.type != "cpu" or n_bytes < LEAST_BYTES or type(like) not in (Tensor, torch.nn.Parameter):
            return like.new_empty(size)
        block = self._take(n_bytes)
        if block is None:
            block = torch.empty(n_bytes, dtype=torch.uint8, device="cpu").numpy()
        # The tensor holds this view and the view the block: it is the view's end that says that no tensor is left.
        view = block[:n_bytes]
        weakref.finalize(view, self._back.append, block).atexit = False
        return torch.as_tensor(view).view(like.dtype)

    def unused_bytes(self) -> int:
        """How much lies here for the next call."""
        with self._lock:
            self._sort_in()
            return sum(block.nbytes for _, block in self._free)

    def clear(self) -> None:
        """Gives all that is unused back to the operating system."""
        with self._lock:
            self._sort_in()
            self._free.clear()

    def _take(self, n_bytes: int) -> np.ndarray | None:
        """The block that came back last of those that are large enough and not twice too large."""
        with self._lock:
            self._sort_in()
            self._lent += 1
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="rnnvg memory", daemon=True)
                self._sweeper.start()
            for i in reversed(range(len(self._free))):
                if n_bytes <= self._free[i][1].nbytes <= 2 * n_bytes:
                    return self._free.pop(i)[1]
            return None

    def _sort_in(self) -> None:
        """Sorts in what came back, and lets go of the oldest blocks beyond the bound. With the lock held."""
        now = time.monotonic()
        while self._back:
            self._free.append((now, self._back.popleft()))
            self._lent -= 1
        unused = sum(block.nbytes for _, block in self._free)
        while unused > self.most_bytes:
            unused -= self._free.pop(0)[1].nbytes

    def _sweep(self) -> None:
        """Lets go of what was not used for `idle_seconds`, until there is nothing left."""
        while True:
            time.sleep(self.idle_seconds)
            with self._lock:
                self._sort_in()
                until = time.monotonic() - self.idle_seconds / 2
                self._free = [each for each in self._free if each[0] > until]
                if not self._free and not self._lent:
                    self._sweeper = None
                    return

    def after_fork(self) -> None:
        """In a forked child: the lock may have been held, and no other thread runs there."""
        self._lock, self._sweeper = threading.Lock(), None


_POOL = Pool()
empty = _POOL.empty
unused_bytes = _POOL.unused_bytes
clear = _POOL.clear
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.after_fork)
