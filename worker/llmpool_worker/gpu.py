"""What NVML tells of this machine's GPUs. Without a GPU, a library or a driver that is a fact, never an error."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

import structlog

from llmpool_contract.report import GPUReport

log = structlog.get_logger()

INTERVAL_S = 1.0
"""Between two readings; NVML's own sample periods are 1/6 to 1 s long."""
STALE_S = 5.0
RETRY_S = 5.0
RETRY_MAX_S = 300.0
"""Before NVML is tried again, doubling with each failure: a driver may be replaced, a GPU come back."""


class NvmlFailed(Exception):
    """NVML as a whole can't be used now. The text says why."""


class NoNvml(NvmlFailed):
    """Nor ever in this process: there is no library."""


class CardLost(NvmlFailed):
    """One GPU fell off its bus or needs a reset; the others may be well."""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU. Its uuid stays, its index and its handle may change with the driver."""

    uuid: str
    index: int
    name: str


class Nvml(Protocol):
    """What this file needs of NVML. All calls block, and raise NvmlFailed; a reading that a card
    (one in MIG mode, say) doesn't support or doesn't allow is None."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def count(self) -> int: ...

    def cards(self) -> list[Card]: ...

    def utilization(self, uuid: str) -> float | None:
        """0..1, of the last sample period."""

    def memory(self, uuid: str) -> tuple[int, int] | None:
        """Bytes (used, total)."""


class GpuReader:
    """One reading of all GPUs. ``now``: monotonic seconds. Blocks, so it is for a thread."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._started = False
        self._count = -1
        self._cards: list[Card] = []
        self._failures = 0
        self._again_at = 0.0
        self.reason: str | None = "not read yet"
        """Why there are no readings; None: there are."""

    def read(self, now: float) -> list[GPUReport] | None:
        """All GPUs that can be read, or None with ``reason``: not usable now, which a later call may find changed."""
        if now < self._again_at:
            return None
        try:
            self._look()
            reports = [report for card in self._cards if (report := self._report(card)) is not None]
        except NvmlFailed as failed:
            self._failed(failed, now)
            return None
        if not reports:
            self._rest("no GPU can be seen", now)
            return None
        if self.reason is not None:
            log.info("gpus_readable", gpus=len(reports))
        self._failures, self.reason = 0, None
        return reports

    def _look(self) -> None:
        """Start, and find the cards anew where their number has changed."""
        if not self._started:
            self._nvml.start()
            self._started, self._count = True, -1
        count = self._nvml.count()
        if count != self._count:
            self._cards, self._count = self._nvml.cards(), count

    def _report(self, card: Card) -> GPUReport | None:
        try:
            memory, utilization = self._nvml.memory(card.uuid), self._nvml.utilization(card.uuid)
        except CardLost:
            return None
        return GPUReport(
            index=card.index,
            name=card.name,
            utilization=utilization,
            memory_used_bytes=memory[0] if memory else None,
            memory_total_bytes=memory[1] if memory else None,
        )

    def _failed(self, failed: NvmlFailed, now: float) -> None:
        self.close()
        self._rest(str(failed), now)
        if isinstance(failed, NoNvml):
            self._again_at = float("inf")

    def _rest(self, reason: str, now: float) -> None:
        """Told once: a machine without a GPU is the usual thing."""
        if self.reason != reason:
            log.info("no_gpu_readings", reason=reason)
        self.reason = reason
        self._again_at = now + min(RETRY_MAX_S, RETRY_S * 2 ** min(self._failures, 40))
        self._failures += 1

    def close(self) -> None:
        """Let go of NVML; the next reading begins anew, with new handles."""
        if not self._started:
            return
        self._started = False
        try:
            self._nvml.stop()
        except NvmlFailed as failed:
            log.debug("nvml_unstopped", reason=str(failed))


class GpuWatch:
    """Keeps the latest reading, taken by a thread of its own: a call that hangs in the driver holds up nothing else.

    A thread of a pool would be waited for when the program ends; this one isn't.
    """

    def __init__(self, reader: GpuReader, interval_s: float = INTERVAL_S) -> None:
        self._reader, self._interval_s = reader, interval_s
        self._latest: tuple[float, list[GPUReport] | None] = (0.0, None)  # one value: two threads look at it
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._run, daemon=True, name="gpus").start()

    def stop(self) -> None:
        """No more readings; NVML is let go of by its thread."""
        self._stop.set()

    def latest(self, now: float) -> list[GPUReport] | None:
        """The last reading; None: there is none, or it is too old to say anything about ``now`` (monotonic seconds)."""
        read_at, reports = self._latest
        return reports if now - read_at <= STALE_S else None

    @property
    def read_at(self) -> float:
        """Monotonic seconds of the last try; 0: none yet."""
        return self._latest[0]

    @property
    def reason(self) -> str | None:
        """Why there is no reading, for /health."""
        return self._reader.reason

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._latest = time.monotonic(), self._reader.read(time.monotonic())
                self._stop.wait(self._interval_s)
            self._reader.close()
        except Exception:
            # Bindings of a driver may fail in ways of their own; the worker then goes on without readings.
            log.exception("gpu_readings_ended")
