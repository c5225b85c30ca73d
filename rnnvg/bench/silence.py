"""Runs that show no sign of life: named after a while, given up after a longer one.

A sign is the start of a run or a training step. A process that was stopped (SIGSTOP), a
machine that hangs and a cell that never returns all look the same from outside, and none of them ends by itself.
"""

from __future__ import annotations

from contextlib import suppress

# Seconds without a sign after which a run is named, and after which it is given up where nothing else is said.
NAMED, LONGEST_SILENCE = 60.0, 1800.0
# The most that one look of the driver adds: a driver that was suspended itself has not waited for anybody meanwhile.
_MOST = 5.0


class Silence:
    """How long one run has shown no sign of life, in seconds of the driver's own attention.

    Args:
        longest_silence: seconds after which it is given up.
    """

    def __init__(self, longest_silence: float) -> None:
        self.longest_silence = longest_silence
        self.broken()

    def broken(self) -> None:
        """A sign of life."""
        self.seconds, self.next = 0.0, NAMED

    def passes(self, seconds: float) -> bool:
        """Whether the run is to be given up, after so many more seconds without a sign."""
        self.seconds += min(max(0.0, seconds), _MOST)
        return self.seconds >= self.longest_silence

    def sentence(self, run: str, pid: int) -> str:
        """What to say of it now; empty where there is nothing to say, or nothing new: it is said again at twice the time."""
        if self.seconds < self.next:
            return ""
        shown, self.next = self.next, 2 * self.next
        return (
            f"{run}: no sign of life for {shown:.0f} seconds{_process(pid)}. "
            f"It is given up after {self.longest_silence:.0f} (--longest-silence)."
        )


def _process(pid: int) -> str:
    """The process, and how to wake it where it is known to have been stopped."""
    if not pid:
        return ""
    import psutil

    with suppress(psutil.Error):
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            return f" from process {pid}, which was stopped (`kill -CONT {pid}` lets it go on)"
    return f" from process {pid}"
