"""The loop's timing: every pool each round, changed pools at once, and now and then a list of all there is.

A round takes a tick, or longer where there are so many pools that it would take too much of a core.

Who stands by lists and watches, and ticks only once it leads. Two that tick at once are harmless: decisions come from
the same readings, sizes are absolute, and status and Events are only told twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from llmpool_contract.labels import LABEL_POOL

from .kube import APIError, KubeAPI, collection, pools_path
from .metrics import Metrics
from .pace import Pace, slices
from .pods import pod_of
from .reconciler import Clocks, Reconciler
from .slim import slim_deployment, slim_pool
from .store import Store
from .watch import Watcher

log = structlog.get_logger(__name__)
_SPACING = 0.02
"""Seconds between passes over changed pools."""
_BRIEFLY = 0.1
"""Seconds that a pass is waited for: turns that take longer go on beside the next ones."""
_NO_CRD = "the cluster has no llmworkerpools.llmpool.dev: kubectl apply -f crds/llmworkerpools.yaml"
_RELIST_SOON = 5.0
"""Seconds to the next list while no watch is up, after one came up, and after the API server was in trouble."""

_LONGEST_PAUSE = 30.0
"""Seconds to the next list while it isn't known where the API server is."""


class Loop:
    """All pools of one namespace, or of all (None). ``tick`` and ``relist`` are seconds."""

    def __init__(
        self,
        api: KubeAPI,
        store: Store,
        reconciler: Reconciler,
        watcher: Watcher,
        metrics: Metrics,
        clocks: Clocks,
        *,
        namespace: str | None,
        tick: float,
        relist: float,
    ) -> None:
        self._api = api
        self._store = store
        self._reconciler = reconciler
        self._watcher = watcher
        self._metrics = metrics
        self._monotonic = clocks.monotonic
        self._namespace = namespace
        self._cpu = clocks.cpu
        self._pace = Pace(tick)
        self._relist = relist
        self._listed = False
        self._list_told = ""
        """The failure of lists that the log has."""
        self._list_pause = _RELIST_SOON
        self._takeover = asyncio.Event()
        """Set when it begins to go round; a list begun before that may lack its predecessor's last words."""
        self._progressed_at = clocks.monotonic()

    @property
    def age(self) -> float:
        """Seconds since a part of a round ended: the loop's own progress."""
        return self._monotonic() - self._progressed_at

    @property
    def ticking(self) -> bool:
        """Whether it does more than listen."""
        return self._takeover.is_set()

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """List and watch; go round once ``lead`` returns, until cancelled. Raises what broke it, if anything did."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._relist_forever(), name="relist")
                group.create_task(self._round_forever(lead), name="round")
        finally:
            await self._reconciler.close()

    async def _round_forever(self, lead: Callable[[], Awaitable[None]]) -> None:
        await lead()
        self._listed = False
        self._progressed_at = self._monotonic()
        self._takeover.set()
        while True:
            await self.round()

    async def round(self) -> None:
        """Every pool once, in parts that are spread over the round's time; in between, pools that changed."""
        began, cost, busy = self._monotonic(), self._cpu(), 0.0
        period = self._pace.period
        parts = slices(self._reconciler.known if self._listed else ())
        spacing = period / len(parts)
        for number, part in enumerate(parts):
            await self._serve_changes(began + number * spacing)
            started = self._monotonic()
            await self._reconciler.serve(part, changed=False, patience=min(spacing, _BRIEFLY))
            self._progressed_at = self._monotonic()
            busy += self._progressed_at - started
        await self._reconciler.forget_unused()
        self._metrics.round(busy, period, len(self._reconciler.known))
        self._ended(self._cpu() - cost)
        await self._serve_changes(began + period)

    def _ended(self, cost: float) -> None:
        before = self._pace.period
        self._pace.ended(cost)
        after = self._pace.period
        if (after > self._pace.tick) != (before > self._pace.tick):
            log.info("rounds take longer than a tick" if after > before else "rounds take a tick", seconds=after)

    async def _serve_changes(self, until: float) -> None:
        """Serve the pools that change until then; who comes late serves those that have changed already."""
        while True:
            if self._listed and self._store.dirty:
                for part in slices(list(self._store.take_dirty())):
                    await self._reconciler.serve(part, changed=True, patience=_BRIEFLY)
            left = until - self._monotonic()
            if left <= 0:
                return
            await self._news(left)

    async def _news(self, timeout: float) -> None:
        """Wait for changes, and a little longer, so that a burst of events is one pass."""
        if not self._listed:
            await asyncio.sleep(min(timeout, _BRIEFLY))
            return
        try:
            async with asyncio.timeout(timeout):
                await self._store.changed.wait()
                await asyncio.sleep(_SPACING)
        except TimeoutError:
            return

    async def _relist_forever(self) -> None:
        while True:
            try:
                await self.relist()
            except APIError as error:
                await asyncio.sleep(self._list_failed(error))
            else:
                if self._list_told:
                    self._list_told, self._list_pause = "", _RELIST_SOON
                    log.info("listed again")
                await self._until_next_list()

    def _list_failed(self, error: APIError) -> float:
        """Say it, once for each reason. Gives the seconds to the next try: ever more where there is nobody to ask."""
        self._metrics.error("List")
        why = _NO_CRD if error.status == 404 else str(error)
        if why != self._list_told:
            self._list_told = why
            log.warning("list failed", error=why)
        pause = self._list_pause
        self._list_pause = min(2 * pause, _LONGEST_PAUSE) if error.unconfigured else _RELIST_SOON
        return pause

    async def relist(self) -> None:
        """Read all pools, Deployments and pods, which corrects whatever a watch missed; then see that one is up."""
        leading = self._takeover.is_set()
        pools, version = await self._api.list(pools_path(self._namespace), keep=slim_pool)
        deployments, as_of = await self._api.list(
            collection(self._namespace, "deployments", "apps/v1"), selector=LABEL_POOL, keep=slim_deployment
        )
        self._store.listed_deployments(deployments, as_of)
        self._store.listed_pools(pools, version)
        await self._list_pods()
        self._listed = leading
        self._watcher.start()

    async def _list_pods(self) -> None:
        """Without pods nobody can be chosen, so nothing shrinks; all the rest goes on, and pools say so."""
        try:
            pods, version = await self._api.list(
                collection(self._namespace, "pods", "v1"), selector=LABEL_POOL, keep=pod_of
            )
        except APIError as error:
            self._metrics.error("ListPods")
            log.warning("pods not listed", error=str(error))
        else:
            self._store.listed_pods(pods, version)

    async def _until_next_list(self) -> None:
        """A while; but soon again where a watch may have missed something, or is not up at all."""
        sure = self._watcher.starts, self._api.troubles
        waited = 0.0
        while waited < self._relist:
            await self._pause(_RELIST_SOON)
            waited += _RELIST_SOON
            if self._takeover.is_set() and not self._listed:
                return
            if not self._watcher.running or sure != (self._watcher.starts, self._api.troubles):
                return

    async def _pause(self, seconds: float) -> None:
        """Sleep; who stands by is woken by the takeover."""
        if self._listed:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._takeover.wait()
        except TimeoutError:
            return
