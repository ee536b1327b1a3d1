"""What the scripted Ollama tells about the requests that it saw, and about what they did to its memory."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Call:
    """One request to a model. Times are Unix seconds; `outcome` is answered, refused, fault or client gone."""

    path: str
    model: str
    body: Mapping[str, Any]
    began_at: float
    fault: str | None = None
    outcome: str | None = None
    ended_at: float | None = None


@dataclass
class Change:
    """A model that came into memory or left it.

    `what`: load, load failed (or given up by its client), unload (asked for), evict (for another model), reload (for
    other runner options). `took_s` of a load is from its request, the wait for room included. `beside`: the other
    models that had requests at the server meanwhile. `race`: together with it they are more than have room.
    """

    what: str
    model: str
    at: float
    took_s: float = 0.0
    beside: list[str] = field(default_factory=list)
    race: bool = False


class Seen:
    """The requests for an answer since the last script; commands to load and unload are counted apart."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.count: Counter[str] = Counter()
        self.loads: list[tuple[str, str]] = []  # the commands: (model, load or unload)
        self.changes: list[Change] = []
        self._loading: list[Change] = []
        self._running: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()
        self._peak_of_all = 0

    def of(self, model: str) -> int:
        return self.count[model]

    def total(self) -> int:
        return self.count.total()

    def running(self, model: str) -> int:
        """Requests at the server, those that wait inside it too."""
        return self._running[model]

    def begin(self, path: str, model: str, body: Mapping[str, Any]) -> Call:
        call = Call(path, model, body, time.time())
        self.calls.append(call)
        self.count[model] += 1
        self._running[model] += 1
        self._peak[model] = max(self._peak[model], self._running[model])
        self._peak_of_all = max(self._peak_of_all, self._running.total())
        for change in self._loading:
            if model not in (change.model, *change.beside):
                change.beside.append(model)
        return call

    def end(self, call: Call) -> None:
        call.ended_at = time.time()
        self._running[call.model] -= 1

    @contextmanager
    def loading(self, model: str, places: int) -> Iterator[None]:
        """One load, from its request until the model is in memory, or isn't."""
        others = [name for name, count in self._running.items() if count and name != model]
        change = Change("load", model, time.time(), beside=others)
        self.changes.append(change)
        self._loading.append(change)
        loaded = False
        try:
            yield
            loaded = True
        finally:
            self._loading.remove(change)
            change.what = "load" if loaded else "load failed"
            change.took_s = time.time() - change.at
            change.race = len(change.beside) + 1 > places

    def left(self, model: str, why: str) -> None:
        """A model left memory: unload, evict or reload."""
        self.changes.append(Change(why, model, time.time()))

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": [asdict(call) for call in self.calls],
            "count": dict(self.count),
            "loads": self.loads,
            "changes": [asdict(change) for change in self.changes],
            "swap_races": sum(change.race for change in self.changes),
            "running": self._running.total(),
            "max_concurrent": dict(self._peak),
            "max_concurrent_all": self._peak_of_all,
        }
