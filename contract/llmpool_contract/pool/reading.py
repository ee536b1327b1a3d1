"""Reading a pool's document: parsed already, or as YAML."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pydantic import ValidationError

from llmpool_contract.faults import faults_of
from llmpool_contract.labels import API_VERSION, KIND

from .document import LLMWorkerPool

POOL_MAX_BYTES = 262_144
"""Default bound on a pool's YAML, bytes."""


class PoolError(ValueError):
    """A document that isn't an LLMWorkerPool. ``faults``: one sentence each, field, what was given, what is allowed."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("not a valid LLMWorkerPool:\n" + "\n".join(f"  {fault}" for fault in faults))
        self.faults = faults


def parse_pool(document: Any) -> LLMWorkerPool:
    """Read a document that has been parsed already: the API server's object, or YAML's.

    Raises:
        PoolError: with all faults.
    """
    try:
        return LLMWorkerPool.model_validate(document)
    except ValidationError as error:
        raise PoolError(faults_of(error, LLMWorkerPool)) from None


def load_pool(text: str) -> LLMWorkerPool:
    """Read a pool's YAML (or JSON): exactly one document, no key twice.

    Raises:
        PoolError: with all faults.
    """
    if len(text) > POOL_MAX_BYTES:
        raise PoolError((f"document: {len(text)} characters, allowed are {POOL_MAX_BYTES}",))
    document = _parse_yaml(text)
    if not isinstance(document, dict):
        raise PoolError((f"document: got {type(document).__name__}, wanted a mapping of kind {KIND}, {API_VERSION}",))
    return parse_pool(document)


def _parse_yaml(text: str) -> Any:
    import yaml  # only those who read files need it: it isn't among the contract's dependencies

    class UniqueKeys(yaml.SafeLoader):
        """Refuses what YAML forbids and PyYAML lets pass: the same key twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!a} is there twice", problem_mark=key.start_mark)
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise PoolError((f"document: not YAML: {error}",)) from None
