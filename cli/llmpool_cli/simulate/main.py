"""``llmpool simulate``: what a pool, an HPA and KEDA would have done with a trace of jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from llmpool_cli.lines import USAGE, Output, fail, note
from llmpool_contract.pool import LLMWorkerPoolSpec

from . import options as o
from .held import held_by_hand, schedules_begin
from .hpa import HpaPolicy
from .keda import KedaPolicy
from .outcome import Outcome, outcome_of
from .plot import draw
from .policies import Policy, Terms, simulate
from .pool import PoolPolicy
from .printing import print_table, to_json
from .record import Record
from .shape import Shape, shaped
from .spec import SpecError, queue_target, read_spec
from .synthetic import synthetic, to_csv
from .terms import PeerTerms, WorkerTerms
from .trace import Trace, TraceError, read_trace

DEFAULT_PNG = Path("simulate.png")
_WORKER, _PEERS = WorkerTerms(), PeerTerms()


def simulate_command(
    trace_file: o.TraceFile = None,
    made: o.Synthetic = False,
    write_trace: o.WriteTrace = None,
    begin: o.Begin = 0.0,
    end: o.End = None,
    scale: o.Scale = 1.0,
    speed: o.Speed = 1.0,
    file: o.PoolFile = None,
    min_replicas: o.MinReplicas = None,
    max_replicas: o.MaxReplicas = None,
    average_value: o.AverageValue = None,
    idle: o.Idle = None,
    concurrency: o.Concurrency = None,
    drain: o.Drain = None,
    startup: o.Startup = _WORKER.startup,
    startup_jitter: o.Jitter = _WORKER.startup_jitter,
    load: o.Load = _WORKER.load,
    models_in_memory: o.ModelsInMemory = _WORKER.models_in_memory,
    quantum: o.Quantum = _WORKER.quantum,
    prefill: o.Prefill = _WORKER.prefill,
    decode_alone: o.DecodeAlone = _WORKER.decode_alone,
    decode: o.Decode = _WORKER.decode,
    lease: o.Lease = _WORKER.lease,
    policy: o.Policies = None,
    grace: o.Grace = _PEERS.grace,
    count_in_flight: o.CountInFlight = False,
    hpa_sync: o.HpaSync = _PEERS.hpa_sync,
    hpa_lag: o.HpaLag = _PEERS.hpa_lag,
    hpa_zero: o.HpaZero = False,
    keda_poll: o.KedaPoll = _PEERS.keda_poll,
    keda_cooldown: o.KedaCooldown = _PEERS.keda_cooldown,
    slo: o.Slo = 60.0,
    seed: o.Seed = 1,
    png: o.Png = None,
    no_png: o.NoPng = False,
    output: Output = "text",
) -> None:
    """Play a trace of jobs in virtual time: to the pool's own decisions, and to models of HPA and KEDA.

    Prints a row for each, and draws what waited, what was there and how long jobs waited. Times are in seconds.
    """
    spec, trace = _read(
        _Given(trace_file, made, file),
        Shape(begin, end, scale, speed),
        seed,
        scaling={
            "minReplicas": min_replicas,
            "maxReplicas": max_replicas,
            "averageValue": average_value,
            "idleSeconds": idle,
        },
        worker={"concurrency": concurrency, "drainSeconds": drain},
    )
    if decode < decode_alone:
        fail(f"--decode: got {decode:g}, allowed are --decode-alone ({decode_alone:g}) and more", USAGE)
    if png is not None and not no_png:
        _refuse_unwritable(png)
    worker = WorkerTerms(
        concurrency=spec.worker.concurrency,
        startup=startup,
        startup_jitter=startup_jitter,
        load=load,
        models_in_memory=models_in_memory,
        quantum=quantum,
        prefill=prefill,
        decode_alone=decode_alone,
        decode=decode,
        drain=float(spec.worker.drain_seconds),
        lease=lease,
    )
    peers = PeerTerms(
        grace=grace,
        count_in_flight=count_in_flight,
        hpa_sync=hpa_sync,
        hpa_lag=hpa_lag,
        hpa_zero=hpa_zero,
        keda_poll=keda_poll,
        keda_cooldown=keda_cooldown,
    )
    if write_trace is not None:
        _write(write_trace, trace)
    terms = Terms(spec, worker, peers, seed)
    runs = [_run(name, trace, terms, slo) for name in dict.fromkeys(policy or o.PolicyName)]
    if output == "json":
        typer.echo(to_json([outcome for outcome, _ in runs], trace, terms, slo))
    else:
        print_table([outcome for outcome, _ in runs], slo)
    if not no_png:
        _draw(png, trace, runs, slo)


@dataclass(frozen=True, slots=True)
class _Given:
    """Where trace and pool come from."""

    trace: Path | None
    made: bool
    pool: Path | None


def _read(
    given: _Given, shape: Shape, seed: int, *, scaling: dict[str, Any], worker: dict[str, Any]
) -> tuple[LLMWorkerPoolSpec, Trace]:
    """The pool and the trace; what is wrong with them becomes lines and exit status 2."""
    if (given.trace is None) != given.made:
        fail("got neither or both of TRACE.csv and --synthetic, wanted exactly one", USAGE)
    try:
        spec, left_out = read_spec(given.pool, scaling, worker)
        trace = synthetic(seed) if given.trace is None else read_trace(given.trace)
        shaped_trace = shaped(trace, shape, seed)
    except (SpecError, TraceError) as error:
        fail(str(error), USAGE)
    for line in (*left_out, *held_by_hand(spec), *schedules_begin(spec, shaped_trace)):
        note(line)
    return spec, shaped_trace


def _run(name: o.PolicyName, trace: Trace, terms: Terms, slo: float) -> tuple[Outcome, Record]:
    record = simulate(_policy(name, terms), trace, terms)
    return outcome_of(name, trace, record, slo), record


def _policy(name: o.PolicyName, terms: Terms) -> Policy:
    scaling, target = terms.spec.scaling, queue_target(terms.spec)
    match name:
        case o.PolicyName.POOL:
            return PoolPolicy(terms.spec)
        case o.PolicyName.HPA:
            return HpaPolicy(scaling, target, terms.peers)
        case o.PolicyName.KEDA:
            return KedaPolicy(scaling, target, terms.peers)


def _write(path: Path, trace: Trace) -> None:
    try:
        path.write_text(to_csv(trace), encoding="utf-8")
    except OSError as error:
        fail(f"{path}: can't be written: {error.strerror}")


def _refuse_unwritable(path: Path) -> None:
    """Before the run, which may take minutes. A disk that is full is told afterwards."""
    if not path.parent.is_dir():
        fail(f"{path}: can't be written: no such folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        fail(f"{path}: can't be written: permission denied")


def _draw(asked: Path | None, trace: Trace, runs: Sequence[tuple[Outcome, Record]], slo: float) -> None:
    """The picture. Without matplotlib it is missed only where it was asked for."""
    path = asked or DEFAULT_PNG
    try:
        draw(path, trace, runs, slo)
    except ImportError:
        text = "no picture: matplotlib is missing: pip install 'llm-worker-pool[plot]'"
        if asked is not None:
            fail(text)
        note(f"{text}, or --no-png")
        return
    except OSError as error:
        fail(f"{path}: can't be written: {error.strerror}")
    note(f"drawn: {path}")
