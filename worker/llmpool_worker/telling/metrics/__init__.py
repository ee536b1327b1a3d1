"""The only package that knows Prometheus.

Labels are bounded: queues, outcomes, codes, rules and known models; never ids, tenants or free text.
"""

from .whole import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "Metrics"]
