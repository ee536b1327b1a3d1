"""Answers that were given before: what makes two requests the same, and where their answers are kept."""

from .asking import Cache
from .keys import Serving, cache_keys, uncacheable

__all__ = ["Cache", "Serving", "cache_keys", "uncacheable"]
