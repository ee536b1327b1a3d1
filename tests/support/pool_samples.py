"""Pools made by chance, most of them a little wrong: what the parser and the API server should be of one mind about."""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.support import bad_specs as bad

_URL = [
    "a",
    "b.c",
    ":6379",
    ",",
    "/",
    "0",
    "1",
    "?",
    "ssl_cert_reqs=none",
    "ssl_ca_certs=f",
    "&",
    "[::1]",
    "@",
    "#",
    "m",
]
_SCHEMES = ["redis://", "rediss://", "redis+sentinel://", "rediss+cluster://", "redis+cluster://", "http://", "redis:"]
_NAMES = [
    "a",
    "b",
    "a:latest",
    "b:latest",
    "a:7b",
    "r/a",
    "r/a:latest",
    "host:5000/a",
    "a:x-cloud",
    "a:x:latest",
    "a b",
]
_NUMBERS = [-1, 0, 1, 2, 5, 10, 100, 10_000, 10_001, 1.0, 2.5, "1", True, 2**31]
_QUANTITIES = [
    *_NUMBERS,
    0.5,
    1e6,
    1e6 + 1,
    1e12,
    2e12,
    1001,
    None,
    [],
    [1],
    {},
    {"a": 1},
    "50m",
    "5k",
    "1e3",
    "5Mi",
    "",
]
_CRON = ["*", "0", "5", "59", "60", "-", ",", "/", "15", "L", "#", "mon", "MON", "jan", "7", "?", "23", "31", "12"]
_TEXT = ["a", "B", "/", "-", "_", ".", "x" * 62, "é", "a.b/", "1", " "]


class Sampler:
    """Draws pools from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self._kinds: list[Callable[[], dict[str, Any]]] = [
            lambda: bad.redis(self._one(_SCHEMES) + self._joined(_URL, 6)),
            lambda: bad.models(preload=self._some(_NAMES, 2), allowed=self._some(_NAMES, 4) or ["*"]),
            lambda: bad.models(fallbacks={"a": self._some(_NAMES, 2)}, allowed=self._one([["*"], _NAMES[:4]])),
            lambda: bad.depth(self._quantity()),
            lambda: bad.prometheus(**self._maybe(value=self._quantity(), averageValue=self._quantity())),
            lambda: bad.up(tolerance=self._quantity()),
            lambda: bad.schedule(
                cron=" ".join(self._joined(_CRON, 3) or "*" for _ in range(self._one([4, 5, 5, 5, 6])))
            ),
            lambda: bad.template(labels={self._joined(_TEXT, 3): self._joined(_TEXT, 3)}),
            self._toleration,
            lambda: bad.worker(resources={"limits": {self._one(["cpu", "a b", "x/y"]): self._quantity()}}),
            self._bounds,
            self._metrics,
            self._places,
        ]

    def pools(self, number: int) -> list[dict[str, Any]]:
        """So many, of each kind in turn."""
        return [self._kinds[n % len(self._kinds)]() for n in range(number)]

    def _one(self, of: list[Any]) -> Any:
        return self._chance.choice(of)

    def _some(self, of: list[Any], most: int) -> list[Any]:
        return [self._one(of) for _ in range(self._chance.randint(0, most))]

    def _joined(self, of: list[str], most: int) -> str:
        return "".join(self._some(of, most))

    def _maybe(self, **fields: Any) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if self._chance.random() < 0.5}

    def _quantity(self) -> Any:
        return (
            self._joined(["0", "1", "9", "000", ".", "m", "k"], 4)
            if self._chance.random() < 0.5
            else self._one(_QUANTITIES)
        )

    def _toleration(self) -> dict[str, Any]:
        return bad.template(
            tolerations=[
                self._maybe(
                    key=self._one(["a", "a/b", "a b"]),
                    operator=self._one(["Exists", "Equal", "In"]),
                    value=self._joined(_TEXT, 1),
                    effect=self._one(["NoExecute", "NoSchedule"]),
                    tolerationSeconds=self._one(_NUMBERS),
                )
            ]
        )

    def _bounds(self) -> dict[str, Any]:
        schedule = {
            "cron": "0 7 * * *",
            **self._maybe(minReplicas=self._one(_NUMBERS), maxReplicas=self._one(_NUMBERS)),
        }
        return bad.scaling(
            **self._maybe(
                minReplicas=self._one(_NUMBERS),
                maxReplicas=self._one(_NUMBERS),
                fallback=self._maybe(replicas=self._one(_NUMBERS), afterSeconds=self._one(_NUMBERS)),
                schedules=[schedule],
            )
        )

    def _metrics(self) -> dict[str, Any]:
        kinds = ["QueueDepth", "DrainTime", "GPUUtilization", "Prometheus"]
        blocks = {"queueDepth": {}, "drainTime": {}, "gpuUtilization": {}, "prometheus": {"query": "q", "value": 1}}

        def metric() -> dict[str, Any]:
            kind = self._one(kinds)
            own = list(blocks)[kinds.index(kind)]
            block = self._one([own, own, own, *blocks])
            return {"type": kind, block: blocks[block], **self._maybe(role=self._one(["Target", "Ceiling"]))}

        metrics = [metric() for _ in range(self._chance.randint(1, 2))]
        return bad.document(
            **self._maybe(ollama={"sidecar": {}}, prometheus={"url": "http://p"}), scaling={"metrics": metrics}
        )

    def _places(self) -> dict[str, Any]:
        sidecar = self._maybe(
            gpus=self._one(_NUMBERS), parallel=self._one(_NUMBERS), modelsClaim=self._joined(_TEXT, 1)
        )
        return bad.document(
            redis=self._maybe(url="redis://r", service={"name": self._one(["r", "R", "a."])}) or {"url": "redis://r"},
            ollama=self._maybe(url=self._one(["http://o", "ftp://o"]), sidecar=sidecar) or {"service": {"name": "o"}},
            **self._maybe(mode=self._one(["Active", "Observe"]), target={"name": self._one(["d", "D"])}),
        )
