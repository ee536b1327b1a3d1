"""GPUs: whatever NVML does or lacks, the worker has a reading or a reason."""

import math
import threading
from itertools import pairwise

import pynvml
import pytest

from llmpool_contract.report import GPUReport
from llmpool_worker.gpu import (
    RETRY_MAX_S,
    RETRY_S,
    STALE_S,
    Card,
    CardLost,
    GpuReader,
    GpuWatch,
    NoNvml,
    NvmlFailed,
)
from llmpool_worker.nvml import PyNvml
from tests.support.waiting import until

A, B = Card("GPU-a", 0, "A100"), Card("GPU-b", 1, "A100")


class Script:
    """NVML as a test wants it: what fails raises, what a card doesn't give is None."""

    def __init__(self, *cards: Card) -> None:
        self.here = list(cards)
        self.fails: NvmlFailed | None = None
        self.lost: set[str] = set()
        self.busy: dict[str, float | None] = {}
        self.used: dict[str, tuple[int, int] | None] = {}
        self.starts = self.stops = 0

    def start(self) -> None:
        if self.fails:
            raise self.fails
        self.starts += 1

    def stop(self) -> None:
        self.stops += 1

    def count(self) -> int:
        if self.fails:
            raise self.fails
        return len(self.here)

    def cards(self) -> list[Card]:
        return list(self.here)

    def utilization(self, uuid: str) -> float | None:
        if uuid in self.lost:
            raise CardLost("GPU is lost")
        return self.busy.get(uuid, 0.5)

    def memory(self, uuid: str) -> tuple[int, int] | None:
        return self.used.get(uuid, (10, 40))


def report(card: Card, **changes: object) -> GPUReport:
    usual = {"utilization": 0.5, "memory_used_bytes": 10, "memory_total_bytes": 40}
    return GPUReport(index=card.index, name=card.name, **usual | changes)


def test_a_reading():
    """Each GPU is reported with its index, name, busy time and memory."""
    reader = GpuReader(Script(A, B))
    assert reader.read(0) == [report(A), report(B)]
    assert reader.reason is None


def test_readings_that_a_card_does_not_give():
    """In MIG mode, or where it isn't allowed, a reading is None and not 0; the other readings stay."""
    nvml = Script(A, B)
    nvml.busy[A.uuid], nvml.used[B.uuid] = None, None
    assert GpuReader(nvml).read(0) == [
        report(A, utilization=None),
        report(B, memory_used_bytes=None, memory_total_bytes=None),
    ]


def test_no_library_is_never_asked_again(capsys):
    """A machine without NVIDIA's library is told of once, and nothing is tried there any more."""
    nvml = Script()
    nvml.fails = NoNvml("no NVIDIA driver on this machine")
    reader = GpuReader(nvml)
    assert [reader.read(now) for now in (0.0, 1e9)] == [None, None]
    assert reader.reason == "no NVIDIA driver on this machine"
    assert "".join(capsys.readouterr()).count("no_gpu_readings") == 1


def test_a_driver_that_goes_comes_back():
    """After an error of the driver NVML is let go of, tried again after a wait, and started anew."""
    nvml = Script(A)
    reader = GpuReader(nvml)
    reader.read(0)
    nvml.fails = NvmlFailed("Driver Not Loaded")
    assert (reader.read(1), reader.reason, nvml.stops) == (None, "Driver Not Loaded", 1)
    nvml.fails = None
    assert reader.read(1 + RETRY_S - 0.1) is None
    assert reader.read(1 + RETRY_S) == [report(A)]
    assert (reader.reason, nvml.starts) == (None, 2)


def test_waits_for_a_driver_grow_to_a_bound():
    """A driver that stays away is asked less and less often, and at last every five minutes."""
    nvml = Script()
    nvml.fails = NvmlFailed("Unknown Error")
    reader, tried = GpuReader(nvml), []
    for now in range(2_000):
        nvml.fails = NvmlFailed(f"try at {now}")
        reader.read(now)
        if reader.reason == f"try at {now}":
            tried.append(now)
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert gaps[:4] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S]
    assert set(gaps[6:]) == {math.ceil(RETRY_MAX_S)}
    assert nvml.stops == 0


def test_gpus_that_come_and_go():
    """When their number changes, all are found anew."""
    nvml = Script(A)
    reader = GpuReader(nvml)
    reader.read(0)
    nvml.here = [A, B]
    assert reader.read(1) == [report(A), report(B)]
    nvml.here = [B]
    assert reader.read(2) == [report(B)]


def test_a_lost_card_hides_no_other():
    """A GPU that fell off its bus is left out; where it was the only one there is no reading, and it may come back."""
    nvml = Script(A, B)
    nvml.lost = {A.uuid}
    reader = GpuReader(nvml)
    assert reader.read(0) == [report(B)]
    nvml.lost = {A.uuid, B.uuid}
    assert reader.read(1) is None
    nvml.lost = set()
    assert reader.read(1 + RETRY_S) == [report(A), report(B)]


def test_a_watch_keeps_the_latest_and_forgets_it():
    """The thread's readings are there to be read, until they are too old to say anything; it lets go of NVML."""
    nvml = Script(A)
    watch = GpuWatch(GpuReader(nvml), interval_s=0.01)
    assert watch.latest(0) is None
    watch.start()
    until(lambda: watch.read_at > 0, 5, "a reading")
    read_at = watch.read_at
    assert watch.latest(read_at) == [report(A)]
    watch.stop()
    until(lambda: nvml.stops == 1, 5, "NVML let go of")
    assert watch.latest(watch.read_at + STALE_S + 1) is None


def test_a_hanging_driver_holds_up_nobody():
    """A call that never returns keeps its own thread, which the program's end doesn't wait for."""
    hanging, here = threading.Event(), threading.Event()

    class Hanging(Script):
        def count(self) -> int:
            here.set()
            hanging.wait()
            raise NvmlFailed("ended by the test")

    watch = GpuWatch(GpuReader(Hanging(A)), interval_s=0.01)
    watch.start()
    assert here.wait(5)
    assert watch.latest(0) is None
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "gpus")
    watch.stop()
    hanging.set()
    until(lambda: watch.reason == "ended by the test", 5, "the call's end")


class Driver:
    """The real bindings with a driver of the test's own beneath: functions by name, exceptions are the bindings'."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.give("nvmlInit", None)
        self.give("nvmlShutdown", None)
        self.give("nvmlDeviceGetCount", 1)
        self.give("nvmlDeviceGetHandleByIndex", "handle")
        self.give("nvmlDeviceGetUUID", "GPU-a")
        self.give("nvmlDeviceGetName", "A100")

    def give(self, function: str, answer: object) -> None:
        def call(*_: object) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        self._patch.setattr(pynvml, function, call)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


def utilization(gpu: int) -> pynvml.c_nvmlUtilization_t:
    found = pynvml.c_nvmlUtilization_t()
    found.gpu = gpu
    return found


def memory(used: int, total: int) -> pynvml.c_nvmlMemory_t:
    found = pynvml.c_nvmlMemory_t()
    found.used, found.total = used, total
    return found


def test_the_bindings_units(driver):
    """NVML's percent are a fraction here; memory is bytes."""
    driver.give("nvmlDeviceGetUtilizationRates", utilization(75))
    driver.give("nvmlDeviceGetMemoryInfo", memory(3, 8))
    wanted = GPUReport(index=0, name="A100", utilization=0.75, memory_used_bytes=3, memory_total_bytes=8)
    assert GpuReader(PyNvml()).read(0) == [wanted]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        pytest.param(pynvml.NVML_ERROR_NOT_SUPPORTED, [report(A, utilization=None)], id="MIG"),
        pytest.param(pynvml.NVML_ERROR_NO_PERMISSION, [report(A, utilization=None)], id="not allowed"),
        pytest.param(pynvml.NVML_ERROR_GPU_IS_LOST, None, id="the only card lost"),
        pytest.param(pynvml.NVML_ERROR_DRIVER_NOT_LOADED, None, id="driver gone"),
    ],
)
def test_the_bindings_errors(driver, code, wanted):
    """Each error of NVML's means one reading less, one card less, or none at all; none of them gets out."""
    driver.give("nvmlDeviceGetUtilizationRates", pynvml.NVMLError(code))
    driver.give("nvmlDeviceGetMemoryInfo", memory(10, 40))
    assert GpuReader(PyNvml()).read(0) == wanted


@pytest.mark.parametrize(
    ("code", "for_good"),
    [
        pytest.param(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, True, id="no library"),
        pytest.param(pynvml.NVML_ERROR_DRIVER_NOT_LOADED, False, id="no driver yet"),
    ],
)
def test_a_start_in_vain(driver, code, for_good):
    """Without the library NVML is given up, without a driver it is tried again."""
    driver.give("nvmlInit", pynvml.NVMLError(code))
    reader = GpuReader(PyNvml())
    assert reader.read(0) is None
    driver.give("nvmlInit", None)
    driver.give("nvmlDeviceGetUtilizationRates", utilization(50))
    driver.give("nvmlDeviceGetMemoryInfo", memory(10, 40))
    assert reader.read(1_000) == (None if for_good else [report(A)])
