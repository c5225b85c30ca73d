"""The driver's loop: runs handed to workers, one at a time each, deaths counted, until every run has a result.

A run is pinned to its worker, so that a worker's death ends exactly one attempt, and is counted here: Dask suspects every
task that is queued on a worker that dies, and a scheduler that others started has settings of its own.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from rnnvg.bench import worker
from rnnvg.bench.claims import Claims
from rnnvg.bench.cluster import WorkersLostError, end_worker
from rnnvg.bench.events import Event, Observer
from rnnvg.bench.record import write_off
from rnnvg.bench.silence import LONGEST_SILENCE, Silence
from rnnvg.bench.spec import RunSpec
from rnnvg.bench.store import Store
from rnnvg.faults import MachineError, StorageError, disk_faults_named
from rnnvg.files import make_folder

# A run that takes its worker with it this many times is written off.
DEATHS = 3
# Seconds between two looks at which workers there are; without any, until that is the end; and for runs to stop in.
LOOK_EVERY = 0.5
NO_WORKER = 120.0
STOP_WITHIN = 3.0
# A clock that was set back by so many seconds is named.
CLOCK_BACK = 1.0
# A scheduler that does not say in so many seconds which workers it has is gone.
ANSWERS_WITHIN = 60.0


@dataclass
class Attempt:
    """A run that a worker has in hand."""

    spec: RunSpec
    number: int
    future: Future
    silence: Silence
    pid: int = 0


class Sweep:
    """Runs to be done by the workers of one client.

    Args:
        client: of a scheduler whose workers see the store's directory under the same path.
        store: where results go.
        specs: the runs, in the order in which they are to be started.
        tell: is called with every Event, in the thread that calls `run`.
        execute: what does a run; None: rnnvg.bench.run.execute.
        longest_silence: seconds without a sign of life after which a run is given up; it is left to do.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        specs: Sequence[RunSpec],
        tell: Observer,
        execute: Callable[..., dict[str, Any]] | None = None,
        longest_silence: float = LONGEST_SILENCE,
    ) -> None:
        self.client, self.store, self.tell, self.execute = client, store, tell, execute
        self.topic = f"rnnvg-{uuid.uuid4().hex}"
        self.claims = Claims(self.topic)
        self.waiting = deque(specs)
        self.running: dict[str, Attempt] = {}
        self.deaths: Counter[str] = Counter()
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.seen_worker = time.monotonic()
        self.waiting_noted = False
        self.killed_before = _killed_for_memory()
        self.longest_silence, self.looked = longest_silence, time.monotonic()
        self.clock = time.time() - self.looked
        # Runs that were given up, and the workers that had them, which get no other.
        self.left: list[str] = []
        self.still: set[str] = set()

    def run(self) -> None:
        """Returns when every run has a result.

        Raises:
            StorageError: the directory cannot be written.
            WorkersLostError: there is no worker, and none comes up; or runs were given up, when all others are done.
            KeyboardInterrupt: passed on when the runs under way have stopped.
        """
        self.client.subscribe_topic(self.topic, lambda event: self.messages.put(event[1]))
        try:
            with disk_faults_named(self.store.directory):
                while self.waiting or self.running:
                    self._look()
                    self._listen()
                    self._count_silence()
                    self.claims.beat()
                    self.tell(Event("beat"))
        except BaseException:
            self._stop()
            raise
        finally:
            self.claims.drop_all()
        if self.left:
            raise WorkersLostError(
                f"{self.left[0]}{f' and {len(self.left) - 1} more' if self.left[1:] else ''} showed no sign of life for "
                f"{self.longest_silence:.0f} seconds and {'were' if self.left[1:] else 'was'} given up. What is done is kept, "
                "and the same command does the rest."
            )

    def _look(self) -> None:
        """Counts the dead and hands runs to the idle."""
        try:
            found: Any = self.client.nthreads(callback_timeout=ANSWERS_WITHIN)
            workers = [address for address in found if address not in self.still]
        except Exception as error:
            # Connections, timeouts and a client that has given up: whatever it is, nobody can be asked.
            raise WorkersLostError(
                f"The scheduler does not answer ({type(error).__name__}). What is done is kept."
            ) from error
        for address in [address for address in self.running if address not in workers]:
            self._died(self.running.pop(address))
        for address in [address for address in workers if address not in self.running]:
            if (spec := self._next()) is None:
                break
            self._submit(address, spec)
        if workers:
            self.seen_worker = time.monotonic()
        elif time.monotonic() - self.seen_worker > NO_WORKER:
            raise WorkersLostError(f"There has been no worker for {NO_WORKER:.0f} seconds. What is done is kept.")

    def _next(self) -> RunSpec | None:
        """A run that nobody has done or is doing, now claimed; None where there is none at the moment."""
        for _ in range(len(self.waiting)):
            spec = self.waiting.popleft()
            self.store.check_run(spec)
            while (given := self.store.result(spec.id)) and not spec.is_done_by(given):
                self.store.set_aside(spec.id)
            make_folder(folder := self.store.folder(spec.id))
            ours = self.claims.take(folder)
            if (result := self.store.result(spec.id)) is not None:
                self.claims.drop(folder)
                self.tell(Event("done", spec.id, status=result["status"], text=result["reason"]))
            elif ours:
                return spec
            else:
                self.waiting.append(spec)
        if self.waiting and not self.running and not self.waiting_noted:
            self.waiting_noted = True
            self.tell(
                Event("note", text=f"Waiting for another process, which is doing {len(self.waiting)} of the runs.")
            )
        return None

    def _submit(self, address: str, spec: RunSpec) -> None:
        number = self.deaths[spec.id]
        directory = str(self.store.directory.resolve())
        future = self.client.submit(
            worker.do,
            spec.to_dict(),
            directory,
            self.topic,
            number,
            self.execute,
            key=f"{spec.id}-{self.topic}-{number}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self.running[address] = Attempt(spec, number, future, Silence(self.longest_silence))
        future.add_done_callback(lambda _: self.messages.put({"kind": "ended", "address": address, "attempt": number}))

    def _listen(self) -> None:
        """Takes messages as they come, for at most LOOK_EVERY seconds or until a worker is free."""
        until = time.monotonic() + LOOK_EVERY
        while (left := until - time.monotonic()) > 0:
            try:
                message = self.messages.get(timeout=left)
            except queue.Empty:
                return
            if message["kind"] == "ended":
                attempt = self.running.get(message["address"])
                if attempt is not None and attempt.future.done():
                    del self.running[message["address"]]
                    self._ended(attempt)
                    return
            else:
                self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        run, pid = message["id"], message["pid"]
        attempt = next((each for each in self.running.values() if each.spec.id == run), None)
        if attempt is None or attempt.number != message["attempt"]:
            return
        attempt.silence.broken()
        if message["kind"] == "progress":
            self.tell(Event("progress", run, message["step"], message["steps"], message["loss"]))
            return
        if attempt.pid not in (0, pid):
            # A worker that was started again under the same address: its scheduler has repeated the run on its own.
            self.deaths[run] += 1
            self.tell(Event("again", run))
        attempt.pid = pid
        self.tell(Event("start", run, pid=pid))

    def _count_silence(self) -> None:
        """Names runs that show no sign of life, and gives up those that have not for too long."""
        now = time.monotonic()
        passed, self.looked = now - self.looked, now
        back, self.clock = self.clock - (time.time() - now), time.time() - now
        if back > CLOCK_BACK:
            # Dask's batches wait for a time of day: one that was put together at this moment waits until it comes again.
            self.tell(
                Event(
                    "note",
                    text=f"The clock of this machine went back by {back:.0f} seconds. If nothing moves from here on, press "
                    "Ctrl-C and run the same command again; what is done is kept.",
                )
            )
        for address, attempt in list(self.running.items()):
            run = attempt.spec.id
            if not attempt.silence.passes(passed):
                if text := attempt.silence.sentence(run, attempt.pid):
                    self.tell(Event("note", text=text))
                continue
            del self.running[address]
            self.still.add(address)
            self.left.append(run)
            attempt.future.cancel()
            end_worker(self.client, address)
            self.claims.drop(self.store.folder(run))
            self.tell(
                Event("left", run, text=f"{run} was given up after {self.longest_silence:.0f} seconds without a sign.")
            )

    def _ended(self, attempt: Attempt) -> None:
        future, spec = attempt.future, attempt.spec
        error = future.exception() if future.status == "error" else None
        if future.status in ("cancelled", "lost") or isinstance(error, KilledWorker):
            self._died(attempt)
            return
        if error is not None:
            self._write_off(spec, f"{type(error).__name__}: {error}")
            return
        outcome = future.result()
        future.release()
        self.claims.drop(self.store.folder(spec.id))
        for text in outcome["notes"]:
            self.tell(Event("note", text=text))
        if outcome["outcome"] == "machine":
            raise (StorageError if outcome["storage"] else MachineError)(outcome["reason"])
        if outcome["outcome"] == "interrupted":
            self.waiting.append(spec)
            return
        if outcome["standing"]:
            self.tell(Event("note", text=f"{spec.id} was done by another process too; the first result is kept."))
        self.tell(Event("done", spec.id, status=outcome["status"], text=outcome["reason"]))

    def _died(self, attempt: Attempt) -> None:
        attempt.future.cancel()
        run = attempt.spec.id
        self.deaths[run] += 1
        if self.deaths[run] >= DEATHS:
            memory = _killed_for_memory() - self.killed_before
            why = " The system has ended processes for lack of memory meanwhile." if memory > 0 else ""
            self._write_off(attempt.spec, f"Its worker process was killed {self.deaths[run]} times.{why}")
            return
        # At the end of the queue: whatever it does to its workers, the rest is done first.
        self.claims.drop(self.store.folder(run))
        self.waiting.append(attempt.spec)
        self.tell(Event("again", run))

    def _write_off(self, spec: RunSpec, reason: str) -> None:
        result = write_off(spec, self.store.directory, reason)
        self.claims.drop(self.store.folder(spec.id))
        self.tell(Event("done", spec.id, status=result["status"], text=result["reason"]))

    def _stop(self) -> None:
        """Tells the runs under way to leave a resume file and end, and waits a moment for them to do so."""
        addresses = list(self.running)

        def tell_workers() -> None:
            # A worker that is gone or hangs must not keep anybody waiting.
            with suppress(Exception):
                self.client.run(worker.stop, self.topic, workers=addresses, on_error="ignore")

        with suppress(RuntimeError):  # no more threads
            threading.Thread(target=tell_workers, daemon=True).start()
        until = time.monotonic() + STOP_WITHIN
        while time.monotonic() < until and not all(each.future.done() for each in self.running.values()):
            time.sleep(0.02)
        with suppress(Exception):
            self.client.cancel([each.future for each in self.running.values()])


def _killed_for_memory() -> int:
    """How many processes this machine has killed for want of memory since it was started; 0 where it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
