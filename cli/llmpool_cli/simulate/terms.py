"""What a simulation is told: workers, peers, and how their numbers were chosen. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerTerms:
    """What each worker is like, whoever sizes the pool. The rates are those of a mid-sized GPU and an 8B model."""

    concurrency: int = 5
    """Jobs that run at the same time."""
    startup: float = 20.0
    """From being asked for to taking jobs: scheduling, image, process."""
    startup_jitter: float = 0.25
    """A start takes ``startup`` times 1 - jitter to 1 + jitter, evenly."""
    load: float = 10.0
    """Bringing one model into memory."""
    models_in_memory: int = 1
    quantum: float = 30.0
    """For how long after a load jobs whose model is in memory go before those of another one (MODEL_QUANTUM)."""
    prefill: float = 2000.0
    """Input tokens per second of a job that runs alone."""
    decode_alone: float = 50.0
    """Output tokens per second of a job that runs alone."""
    decode: float = 150.0
    """Output tokens per second of a worker, all its jobs together, at most."""
    drain: float = 600.0
    """What the operator gives a worker that must end."""
    lease: float = 30.0
    """After a worker's death, until its jobs are back in the queue (WORKER_LEASE)."""

    def alone(self, tokens_in: int, tokens_out: int) -> float:
        """Seconds that a job takes on a worker that runs nothing else."""
        return tokens_in / self.prefill + tokens_out / self.decode_alone

    def speeds(self) -> list[float]:
        """Index n: how fast each of n jobs goes, against alone. Shared equally once the worker gives all it can."""
        full = self.decode / self.decode_alone
        return [1.0, *(min(1.0, full / n) for n in range(1, self.concurrency + 1))]


@dataclass(frozen=True, slots=True)
class PeerTerms:
    """HPA and KEDA as they are installed: Kubernetes 1.37's and KEDA 2.20's defaults."""

    grace: float = 30.0
    """A pod's ``terminationGracePeriodSeconds``: Kubernetes' default. What isn't done by then is cut."""
    count_in_flight: bool = False
    """Whether the peers' metric counts running jobs too. A list's length, which both are given usually, doesn't."""
    hpa_sync: float = 15.0
    """``--horizontal-pod-autoscaler-sync-period``."""
    hpa_lag: float = 15.0
    """Age of the metric that HPA reads: half of a scrape interval of 30 s. The adapter between adds no more here."""
    hpa_zero: bool = False
    """Whether HPA may go to zero: only since 1.37 (HPAScaleToZero)."""
    keda_poll: float = 30.0
    """KEDA's ``pollingInterval``."""
    keda_cooldown: float = 300.0
    """KEDA's ``cooldownPeriod``: from the last poll that saw a job to zero."""
