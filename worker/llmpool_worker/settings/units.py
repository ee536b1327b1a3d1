"""Milliseconds, the unit of all durations here."""

HOUR_MS = 3_600_000
