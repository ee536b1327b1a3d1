"""Requests on their way out: each a job, or the reason why it can't be one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from llmpool_client.prepare import Prepared, prepare
from llmpool_contract import BadJob

from .file import BatchFile, Request
from .record import Batch, batch_id_of, job_id_of
from .requests import QUEUE_OF, job_fields

MAX_REASON = 1_000
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request as it goes to Redis: a job, or the reason why it can't be one."""

    request: Request
    job_id: str
    job: Prepared | None
    fault: BadJob | None = None

    @property
    def size(self) -> int:
        return len(self.job.body) if self.job else MAX_REASON

    def arguments(self) -> tuple[str, str, bytes]:
        """Custom id, kind and payload, as the script takes them."""
        if self.job is not None:
            return self.request.custom_id, "job", self.job.body
        assert self.fault is not None
        told = {"code": self.fault.code, "message": self.fault.reason[:MAX_REASON]}
        return self.request.custom_id, "fault", json.dumps(told).encode()


def entry_of(batch: Batch, request: Request, now_s: float) -> Entry:
    """A request's job by the batch's terms, or why there can be none. ``now_s``: Unix seconds."""
    job_id = job_id_of(batch.id, request.custom_id)
    try:
        fields = job_fields(request.url, request.body)
        about = {"batch": batch.id, "custom_id": request.custom_id}
        if fields["metadata"] is not None:
            about |= {"metadata": fields["metadata"]}
        fields |= {"id": job_id, "deadline": batch.deadline_ms, "metadata": about}
        job = prepare(fields, {}, queue=batch.queue, priority=batch.priority, new_id=job_id, now_s=now_s)
    except BadJob as fault:
        return Entry(request, job_id, None, fault)
    return Entry(request, job_id, job)


def check_bodies(file: BatchFile) -> Iterator[tuple[Request, BadJob]]:
    """The requests that no job can stand for, each with the reason. Sends nothing."""
    queue = QUEUE_OF[file.endpoint]
    trial = Batch(
        id=batch_id_of(file.digest, queue),
        queue=queue,
        name=file.name,
        endpoint=file.endpoint,
        digest=file.digest,
        priority="low",
        total=file.total,
        submitted=0,
        created_ms=0,
        deadline_ms=0,
        expires_ms=0,
    )
    for request in file.requests():
        if (fault := entry_of(trial, request, 0.0).fault) is not None:
            yield request, fault
