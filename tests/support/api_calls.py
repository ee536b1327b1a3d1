"""What an API server itself counts of the calls that it gets: nobody's own word."""

import re
from collections import Counter
from pathlib import Path
from typing import Self

from kubernetes.aio import config

RESOURCES = frozenset({"llmworkerpools", "deployments", "events", "pods"})
_SAMPLE = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_READS = frozenset({"GET", "LIST", "WATCH", "CONNECT"})


class APICalls:
    """`async with APICalls(kubeconfig) as calls:` reads the counters of the kinds that an operator touches."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    async def __aenter__(self) -> Self:
        self._api = await config.new_client_from_config(str(self._kubeconfig))  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._api.close()

    async def count(self) -> Counter[str]:
        """`VERB resource/subresource` -> calls so far, whoever made them."""
        headers = dict(self._api.default_headers)
        url = f"{self._api.configuration.host}/metrics"
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], "/metrics", "GET", None)
        response = await self._api.call_api("GET", url, headers)
        counted: Counter[str] = Counter()
        for labels, value in _SAMPLE.findall((await response.read()).decode()):
            of = dict(_LABEL.findall(labels))
            if of["resource"] in RESOURCES:
                counted[f"{of['verb']} {of['resource']}/{of['subresource']}".rstrip("/")] += int(float(value))
        return counted


def writes(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    """The calls between two counts that changed something, or tried to."""
    return {kind: count for kind, count in sorted((after - before).items()) if kind.split()[0] not in _READS}
