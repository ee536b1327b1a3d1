"""Microsoft Presidio as one more detector: its recognisers of patterns and numbers, without a language model.

An extra of its own, for it brings spaCy along. Nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

from .rules import Analyze
from .spec import PresidioSpec
from .width import BadPattern

EXTRA = "pip install 'llm-worker-pool[worker,presidio]'"
_ONLINE = frozenset({"EMAIL_ADDRESS"})
"""Its recogniser asks the network for a list of domains: our own ``email`` doesn't."""


def make_analyzer(spec: PresidioSpec) -> Analyze:
    """The recognisers for some entities. Raises BadPattern where Presidio isn't installed or has none for one."""
    if online := sorted(_ONLINE.intersection(spec.entities)):
        raise BadPattern(f"entities: {', '.join(online)} looks things up online: use detector: email")
    try:
        import presidio_analyzer
    except ImportError:
        raise BadPattern(f"Presidio isn't installed: {EXTRA}") from None
    known = _recognizers(presidio_analyzer, spec.language)
    offered = {entity for recognizer in known for entity in recognizer.supported_entities} - _ONLINE
    if unknown := sorted(set(spec.entities) - offered):
        raise BadPattern(
            f"entities: got {', '.join(unknown)}, allowed without a model in {spec.language} are "
            f"{', '.join(sorted(offered)) or 'none'}"
        )
    wanted = [recognizer for recognizer in known if set(recognizer.supported_entities) & set(spec.entities)]
    return lambda text: _analyze(text, wanted, spec)


def _recognizers(presidio: Any, language: str) -> list[Any]:
    """Those that need no language model: patterns with checks, and phone numbers."""
    registry = presidio.RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language])
    simple = (presidio.PatternRecognizer, presidio.predefined_recognizers.PhoneRecognizer)
    return [recognizer for recognizer in registry.recognizers if isinstance(recognizer, simple)]


def _analyze(text: str, recognizers: list[Any], spec: PresidioSpec) -> list[tuple[int, int]]:
    found = (result for recognizer in recognizers for result in recognizer.analyze(text, spec.entities, None))
    return [(result.start, result.end) for result in found if result.score >= spec.threshold]
