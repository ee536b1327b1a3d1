"""The options of ``llmpool simulate``: names, bounds and what they mean. Times in seconds.

Their defaults are those of ``terms.py``, which says where each comes from.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

_DAY = 86_400.0


class PolicyName(StrEnum):
    """What may size the simulated pool."""

    POOL = "pool"
    HPA = "hpa"
    KEDA = "keda"


TraceFile: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        metavar="[TRACE.csv]",
        help="A line for each job: arrival (seconds or timestamps), input tokens, output tokens, perhaps a model.",
        exists=True,
        dir_okay=False,
    ),
]
Synthetic: TypeAlias = Annotated[
    bool, typer.Option("--synthetic", help="Make an hour of jobs instead: quiet, bursts, a wave, silence.")
]
WriteTrace: TypeAlias = Annotated[
    Path | None, typer.Option("--write-trace", help="Also write the trace that is played to this CSV.", dir_okay=False)
]
Begin: TypeAlias = Annotated[float, typer.Option("--from", min=0, help="Skip so much of the trace.")]
End: TypeAlias = Annotated[
    float | None, typer.Option("--to", min=0, help="Stop there, counted from the trace's beginning.")
]
Scale: TypeAlias = Annotated[
    float, typer.Option(min=0.001, max=1000, help="So many times the jobs, copies spread in between.")
]
Speed: TypeAlias = Annotated[
    float, typer.Option(min=0.001, max=1000, help="Play the trace so many times as fast: the same jobs in less time.")
]
PoolFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "-f", "--file", help="The pool's YAML. Its scaling, concurrency and drain count.", exists=True, dir_okay=False
    ),
]
MinReplicas: TypeAlias = Annotated[int | None, typer.Option("--min", help="minReplicas.")]
MaxReplicas: TypeAlias = Annotated[int | None, typer.Option("--max", help="maxReplicas.")]
AverageValue: TypeAlias = Annotated[
    float | None, typer.Option(help="Jobs per worker: QueueDepth's averageValue, HPA's target, KEDA's listLength.")
]
Idle: TypeAlias = Annotated[int | None, typer.Option("--idle", help="idleSeconds.")]
Concurrency: TypeAlias = Annotated[int | None, typer.Option(help="Jobs that a worker runs at the same time.")]
Drain: TypeAlias = Annotated[int | None, typer.Option(help="drainSeconds: what the pool gives a worker that must end.")]

Startup: TypeAlias = Annotated[
    float, typer.Option(min=0, max=_DAY, help="A worker's start: from being asked for to taking jobs.")
]
Jitter: TypeAlias = Annotated[
    float, typer.Option("--startup-jitter", min=0, max=1, help="A start takes 1 - this to 1 + this times as long.")
]
Load: TypeAlias = Annotated[float, typer.Option(min=0, max=_DAY, help="Loading a model into memory.")]
ModelsInMemory: TypeAlias = Annotated[int, typer.Option(min=1, max=64, help="Models that a worker holds at once.")]
Quantum: TypeAlias = Annotated[
    float,
    typer.Option(min=0, max=_DAY, help="After a load, for so long jobs whose model is in memory go first."),
]
Prefill: TypeAlias = Annotated[
    float, typer.Option(min=0.01, max=1e9, help="Input tokens per second of a job that runs alone.")
]
DecodeAlone: TypeAlias = Annotated[
    float, typer.Option(min=0.01, max=1e9, help="Output tokens per second of a job that runs alone.")
]
Decode: TypeAlias = Annotated[
    float, typer.Option(min=0.01, max=1e9, help="The same of a worker at most, shared by all its jobs.")
]
Lease: TypeAlias = Annotated[
    float, typer.Option(min=0, max=_DAY, help="From a cut to the job's return to the queue (visibility timeout).")
]

Policies: TypeAlias = Annotated[
    list[PolicyName] | None, typer.Option("--policy", help="Only this one; may be repeated. Default: all three.")
]
Grace: TypeAlias = Annotated[
    float, typer.Option(min=0, max=_DAY, help="HPA, KEDA: terminationGracePeriodSeconds; what still runs then is cut.")
]
CountInFlight: TypeAlias = Annotated[
    bool, typer.Option("--count-in-flight", help="HPA, KEDA: running jobs count too, as in the pool's own metric.")
]
HpaSync: TypeAlias = Annotated[float, typer.Option(min=1, max=_DAY, help="HPA: from sync to sync, KEDA's HPA too.")]
HpaLag: TypeAlias = Annotated[float, typer.Option(min=0, max=_DAY, help="HPA: age of the metric that its adapter has.")]
HpaZero: TypeAlias = Annotated[
    bool, typer.Option("--hpa-zero", help="HPA: may go to minReplicas 0, as since Kubernetes 1.37. Else 1 at least.")
]
KedaPoll: TypeAlias = Annotated[float, typer.Option(min=1, max=_DAY, help="KEDA: pollingInterval.")]
KedaCooldown: TypeAlias = Annotated[float, typer.Option(min=0, max=_DAY, help="KEDA: cooldownPeriod, before zero.")]

Slo: TypeAlias = Annotated[float, typer.Option(min=0, max=_DAY, help="Within this a job should have begun.")]
Seed: TypeAlias = Annotated[
    int, typer.Option(help="Of start-up times, phases, --scale and --synthetic. The same seed gives the same numbers.")
]
Png: TypeAlias = Annotated[
    Path | None, typer.Option(help="Where the picture goes. Needs the extra `plot`.", dir_okay=False)
]
NoPng: TypeAlias = Annotated[bool, typer.Option("--no-png", help="Draw no picture.")]
