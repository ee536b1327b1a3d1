"""Model servers behind one Protocol: ``ollama``, ``openai`` (any /v1), ``echo`` (none at all)."""

from .base import Backend, BackendError, ErrorKind, Event, ask

__all__ = ["Backend", "BackendError", "ErrorKind", "Event", "ask"]
