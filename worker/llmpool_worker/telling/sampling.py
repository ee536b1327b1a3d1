"""Which jobs are told of in detail. Pure: a job is always in or always out, with its retries and in every channel."""

from __future__ import annotations

from zlib import crc32


def is_sampled(job_id: str, share: float) -> bool:
    """Whether a job is among the ``share`` (0..1) that PERFORMANCE_SAMPLE_RATE keeps."""
    # CRC-32 spreads ids that differ in a digit over the whole range; nobody gains by choosing one's id for it.
    return crc32(job_id.encode()) < share * 2**32
