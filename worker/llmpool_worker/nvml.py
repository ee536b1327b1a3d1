"""NVML by NVIDIA's own bindings (``nvidia-ml-py``, whose module is ``pynvml``): the only file that knows them."""

from __future__ import annotations

from typing import Any

import structlog

from .gpu import Card, CardLost, NoNvml, NvmlFailed

log = structlog.get_logger()


class PyNvml:
    """Imports the bindings when they are first used."""

    def __init__(self) -> None:
        self._lib: Any = None
        self._handles: dict[str, Any] = {}

    def start(self) -> None:
        """Load and initialise."""
        try:
            import pynvml
        except ImportError:
            raise NoNvml("nvidia-ml-py isn't installed") from None
        self._lib = pynvml
        try:
            self._call("nvmlInit")
        except NvmlFailed as failed:
            missing = isinstance(failed.__cause__, pynvml.NVMLError_LibraryNotFound)
            raise NoNvml("no NVIDIA driver on this machine") if missing else failed from failed.__cause__

    def stop(self) -> None:
        """The counterpart of each :meth:`start`."""
        self._handles.clear()
        self._call("nvmlShutdown")

    def count(self) -> int:
        """GPUs that this process may see."""
        return int(self._call("nvmlDeviceGetCount"))

    def cards(self) -> list[Card]:
        """All of them; one that can't be opened is left out, so that it doesn't hide the others."""
        self._handles.clear()
        found = []
        for index in range(self.count()):
            try:
                handle = self._call("nvmlDeviceGetHandleByIndex", index)
                uuid, name = str(self._call("nvmlDeviceGetUUID", handle)), str(self._call("nvmlDeviceGetName", handle))
            except CardLost as lost:
                log.warning("gpu_lost", gpu=index, reason=str(lost))
                continue
            self._handles[uuid] = handle
            found.append(Card(uuid, index, name))
        return found

    def utilization(self, uuid: str) -> float | None:
        """0..1; None in MIG mode, where NVML has none."""
        rates = self._reading("nvmlDeviceGetUtilizationRates", uuid)
        return None if rates is None else float(rates.gpu) / 100

    def memory(self, uuid: str) -> tuple[int, int] | None:
        """Bytes (used, total) of the whole card."""
        info = self._reading("nvmlDeviceGetMemoryInfo", uuid)
        return None if info is None else (int(info.used), int(info.total))

    def _reading(self, function: str, uuid: str) -> Any:
        lib = self._lib
        not_given = (lib.NVMLError_NotSupported, lib.NVMLError_NoPermission, lib.NVMLError_NoData)
        try:
            return self._call(function, self._handles[uuid])
        except NvmlFailed as failed:
            if isinstance(failed.__cause__, not_given):
                return None
            raise

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._lib, function)(*arguments)
        except (self._lib.NVMLError_GpuIsLost, self._lib.NVMLError_ResetRequired) as error:
            raise CardLost(str(error)) from error
        except self._lib.NVMLError as error:
            raise NvmlFailed(str(error)) from error
