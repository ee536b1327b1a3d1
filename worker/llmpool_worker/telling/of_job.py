"""From a job's end to what is told of it."""

from __future__ import annotations

from llmpool_worker.attempt import queued_s
from llmpool_worker.held import HeldJob
from llmpool_worker.runner import Ended

from .events import JobEvent


def event_of(
    held: HeldJob, ended: Ended | None, outcome: str, code: str | None, reason: str | None, worker: str
) -> JobEvent:
    """One claim's event. ``ended`` None: it never ran."""
    element, job = held.claim.element, held.job
    final = ended.final if ended else None
    return JobEvent(
        queue=held.claim.keys.queue,
        job_id=held.known_id,
        handle=held.claim.handle,
        outcome=outcome,
        job_type=job.type if job else None,
        model=job.model if job else None,
        code=code,
        reason=reason,
        attempts=element.attempts,
        deliveries=element.deliveries,
        queued_s=queued_s(held),
        running_s=ended.running_s if ended else None,
        first_token_s=ended.first_token_s if ended else None,
        input_tokens=final.input_tokens if final else None,
        output_tokens=final.output_tokens if final else None,
        worker=worker,
        tenant=job.tenant if job else None,
        traceparent=job.traceparent if job else None,
        stream=job.stream if job else False,
        model_used=ended.asked.model if ended and ended.asked else None,
        finish_reason=final.finish_reason if final else None,
        load_s=final.load_s if final else None,
        prompt_s=final.prompt_s if final else None,
        eval_s=final.eval_s if final else None,
        rules=ended.flags if ended else (),
    )
