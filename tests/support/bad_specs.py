"""Pools with one fault each: the field that is named, and what the parser says about it.

The parser and the API server are both held to this table: what one refuses the other refuses.
"""

from dataclasses import dataclass
from typing import Any

UNKNOWN_FIELD = "unknown field"


@dataclass(frozen=True)
class Bad:
    """A pool, the path that the parser begins its sentence with, and a part of that sentence."""

    given: dict[str, Any]
    field: str
    said: str
    told: str = ""
    """A part of the API server's sentence. Empty: the field's path."""

    @property
    def unknown(self) -> bool:
        """Whether it's about a field that isn't there: kubectl has the server refuse these as badly written."""
        return self.said.startswith(("allowed here", UNKNOWN_FIELD))


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "llmpool.dev/v1alpha1",
        "kind": "LLMWorkerPool",
        "metadata": {"name": "chat", "namespace": "lms"},
        "spec": {"queues": [{"name": "llm-chat"}], "redis": {"service": {"name": "redis-master"}}, **spec},
    }


def scaling(**fields: Any) -> dict[str, Any]:
    return document(scaling=fields)


def metric(kind: str, *, spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return document(scaling={"metrics": [{"type": kind, **fields}]}, **(spec or {}))


def depth(value: Any) -> dict[str, Any]:
    return metric("QueueDepth", queueDepth={"averageValue": value})


def prometheus(**fields: Any) -> dict[str, Any]:
    return metric("Prometheus", spec={"prometheus": {"url": "http://p:9090"}}, prometheus={"query": "q", **fields})


def up(**fields: Any) -> dict[str, Any]:
    return scaling(behavior={"scaleUp": fields})


def policy(**fields: Any) -> dict[str, Any]:
    return up(policies=[{"type": "Pods", "value": 1, "periodSeconds": 1, **fields}])


def redis(url: str) -> dict[str, Any]:
    return document(redis={"url": url})


def models(**fields: Any) -> dict[str, Any]:
    return document(models=fields)


def worker(**fields: Any) -> dict[str, Any]:
    return document(worker=fields)


def template(**fields: Any) -> dict[str, Any]:
    return document(worker={"podTemplate": fields})


def sidecar(**fields: Any) -> dict[str, Any]:
    return document(ollama={"sidecar": fields})


def schedule(**fields: Any) -> dict[str, Any]:
    return scaling(schedules=[{"cron": "0 7 * * 1-5", "minReplicas": 2, **fields}])


def without(field: str) -> dict[str, Any]:
    """A pool whose spec lacks a field."""
    whole = document()
    return {**whole, "spec": {name: value for name, value in whole["spec"].items() if name != field}}


GPU = {"type": "GPUUtilization"}
GPU_CEILING = {**GPU, "role": "Ceiling"}
CARD = {"nvidia.com/gpu": 1}

_WHO = {
    "name-with-dot": Bad({**document(), "metadata": {"name": "a.b"}}, "metadata.name", "got 'a.b'"),
    "name-long": Bad({**document(), "metadata": {"name": "a" * 41}}, "metadata.name", "at most 40"),
    "no-spec": Bad({k: v for k, v in document().items() if k != "spec"}, "spec", "missing"),
    "field-unknown": Bad(document(colour="red"), "spec.colour", "allowed here are replicas, queues"),
    "field-misspelt": Bad(
        scaling(minReplica=1), "spec.scaling.minReplica", "allowed here are minReplicas, maxReplicas"
    ),
    "field-in-snake-case": Bad(scaling(min_replicas=1), "spec.scaling.min_replicas", UNKNOWN_FIELD),
    "replicas-negative": Bad(document(replicas=-1), "spec.replicas", "got -1"),
    "replicas-absurd": Bad(document(replicas=10**6), "spec.replicas", "10000"),
    "replicas-true": Bad(document(replicas=True), "spec.replicas", "got True"),
    "replicas-text": Bad(document(replicas="3"), "spec.replicas", "got '3'"),
    "mode": Bad(document(mode="Dry"), "spec.mode", "'Active' or 'Observe'"),
    "paused": Bad(document(paused="Yes"), "spec.paused", "'None', 'All', 'ScaleIn' or 'ScaleOut'"),
    "target-of-an-active-pool": Bad(
        document(target={"name": "d"}), "spec", "target: only with mode Observe", "spec.target"
    ),
    "target-name": Bad(document(mode="Observe", target={"name": "D"}), "spec.target.name", "got 'D'"),
}

_QUEUES = {
    "no-queues": Bad(document(queues=[]), "spec.queues", "at least 1"),
    "queues-missing": Bad(without("queues"), "spec.queues", "missing"),
    "queues-text": Bad(document(queues="llm-chat"), "spec.queues", "valid list"),
    "too-many-queues": Bad(document(queues=[{"name": f"q{n}"} for n in range(33)]), "spec.queues", "at most 32"),
    "queue-twice": Bad(
        document(queues=[{"name": "q"}, {"name": "q"}]), "spec", "queues: q: there more", "spec.queues[1]"
    ),
    "queue-name": Bad(document(queues=[{"name": "a b"}]), "spec.queues[0].name", "got 'a b'"),
    "queue-name-long": Bad(document(queues=[{"name": "q" * 129}]), "spec.queues[0].name", "at most 128"),
    "queue-without-name": Bad(document(queues=[{"weight": 1}]), "spec.queues[0].name", "missing"),
    "weight-zero": Bad(document(queues=[{"name": "q", "weight": 0}]), "spec.queues[0].weight", "greater than 0"),
    "weight-absurd": Bad(
        document(queues=[{"name": "q", "weight": 1001}]), "spec.queues[0].weight", "less than or equal"
    ),
    "weight-text": Bad(document(queues=[{"name": "q", "weight": "heavy"}]), "spec.queues[0].weight", "heavy"),
}

_REDIS = {
    "no-redis": Bad(without("redis"), "spec.redis", "missing"),
    "redis-neither": Bad(document(redis={}), "spec.redis", "neither of url and service"),
    "redis-both": Bad(document(redis={"url": "redis://r", "service": {"name": "r"}}), "spec.redis", "both of url"),
    "redis-scheme": Bad(redis("http://r"), "spec.redis.url", "rediss?"),
    "redis-password": Bad(redis("redis://user:pass@r"), "spec.redis.url", "should match"),
    "redis-password-as-an-option": Bad(redis("rediss://r/0?password=x"), "spec.redis.url", "should match"),
    "redis-unknown-option": Bad(redis("rediss://r/0?ssl_password=x"), "spec.redis.url", "option ssl_password"),
    "redis-client-certificate": Bad(redis("rediss://r/0?ssl_certfile=f"), "spec.redis.url", "option ssl_certfile"),
    "redis-client-key": Bad(redis("rediss://r/0?ssl_ca_certs=f&ssl_keyfile="), "spec.redis.url", "option ssl_keyfile"),
    "redis-tls-without-tls": Bad(redis("redis://r/0?ssl_cert_reqs=none"), "spec.redis.url", "wanted rediss"),
    "redis-several-hosts": Bad(redis("redis://a,b"), "spec.redis.url", "several hosts"),
    "redis-no-master": Bad(redis("redis+sentinel://a,b:26379"), "spec.redis.url", "no master's name"),
    "redis-path": Bad(redis("redis://r/first"), "spec.redis.url", "no database"),
    "redis-port-text": Bad(redis("redis://r:port/0"), "spec.redis.url", "not an address"),
    "redis-cluster-database": Bad(redis("redis+cluster://r/1"), "spec.redis.url", "only that one"),
    "redis-namespace": Bad(
        document(redis={"service": {"name": "r.other"}}), "spec.redis.service.name", "got 'r.other'"
    ),
    "redis-port": Bad(document(redis={"service": {"name": "r", "port": 0}}), "spec.redis.service.port", "got 0"),
    "secret-name": Bad(
        document(redis={"url": "redis://r", "credentialsSecret": {"name": "A"}}),
        "spec.redis.credentialsSecret.name",
        "got 'A'",
    ),
}

_OLLAMA = {
    "ollama-none": Bad(document(ollama={}), "spec.ollama", "got none of url, service and sidecar"),
    "ollama-two": Bad(
        document(ollama={"url": "http://o", "service": {"name": "o"}}), "spec.ollama", "got url and service of"
    ),
    "ollama-sidecar-too": Bad(
        document(ollama={"url": "http://o", "sidecar": {}}), "spec.ollama", "got url and sidecar of"
    ),
    "ollama-login": Bad(document(ollama={"url": "http://u:p@o"}), "spec.ollama.url", "should match"),
    "ollama-query": Bad(document(ollama={"url": "http://o?x=1"}), "spec.ollama.url", "should match"),
    "ollama-host": Bad(document(ollama={"url": "http://[bad"}), "spec.ollama.url", "should match"),
    "sidecar-gpus": Bad(sidecar(gpus=17), "spec.ollama.sidecar.gpus", "got 17"),
    "sidecar-parallel": Bad(sidecar(parallel=0), "spec.ollama.sidecar.parallel", "got 0"),
    "sidecar-image": Bad(sidecar(image=""), "spec.ollama.sidecar.image", "at least 1"),
    "sidecar-claim": Bad(sidecar(modelsClaim="My_Models"), "spec.ollama.sidecar.modelsClaim", "got 'My_Models'"),
    "sidecar-gpu-twice": Bad(sidecar(resources={"limits": CARD}), "spec.ollama.sidecar", "set by gpus"),
    "sidecar-parallel-twice": Bad(
        document(ollama={"sidecar": {}}, worker={"env": [{"name": "OLLAMA_NUM_PARALLEL", "value": "2"}]}),
        "spec",
        "worker.env: OLLAMA_NUM_PARALLEL",
        "spec.worker.env",
    ),
}

_MODELS = {
    "preload-not-allowed": Bad(
        models(preload=["a", "b"], allowed=["a"]), "spec.models", "preload: b: not among", "spec.models.preload"
    ),
    "preload-of-another-tag": Bad(
        models(preload=["a:7b"], allowed=["a"]), "spec.models", "preload: a:7b", "spec.models.preload"
    ),
    "preload-twice": Bad(
        models(preload=["a", "a"]), "spec.models", "preload: a:latest: there more", "spec.models.preload[1]"
    ),
    "preload-twice-by-tag": Bad(
        models(preload=["a", "a:latest"]), "spec.models", "preload: a:latest", "spec.models.preload"
    ),
    "preload-name": Bad(models(preload=["a b"]), "spec.models.preload[0]", "got 'a b'"),
    "preload-cloud": Bad(models(preload=["a:7b-cloud"]), "spec.models.preload[0]", "cloud"),
    "preload-too-many": Bad(models(preload=[f"m{n}" for n in range(33)]), "spec.models.preload", "at most 32"),
    "allowed-none": Bad(models(allowed=[]), "spec.models.allowed", "at least 1"),
    "allowed-cloud": Bad(models(allowed=["a:cloud"]), "spec.models.allowed[0]", "cloud"),
    "allowed-twice": Bad(
        models(allowed=["r/a:latest", "r/a"]), "spec.models", "allowed: r/a:latest", "spec.models.allowed"
    ),
    "allowed-all-and-one": Bad(
        models(allowed=["*", "a"]), "spec.models", "allowed: got * beside", "spec.models.allowed"
    ),
    "fallbacks-not-allowed": Bad(
        models(fallbacks={"big": ["small"]}, allowed=["big"]),
        "spec.models",
        "fallbacks: small",
        "spec.models.fallbacks",
    ),
    "fallbacks-none": Bad(models(fallbacks={"big": []}), "spec.models.fallbacks.big", "at least 1"),
    "fallbacks-too-many": Bad(
        models(fallbacks={"big": [f"m{n}" for n in range(9)]}), "spec.models.fallbacks.big", "at most 8"
    ),
    "fallbacks-twice": Bad(
        models(fallbacks={"big": ["a", "a:latest"]}), "spec.models", "fallbacks.big: a:latest", "spec.models.fallbacks"
    ),
    "fallbacks-twice-exactly": Bad(
        models(fallbacks={"big": ["a:7b", "a:7b"]}),
        "spec.models",
        "fallbacks.big: a:7b",
        "spec.models.fallbacks[big][1]",
    ),
    "fallbacks-key": Bad(models(fallbacks={"b g": ["a"]}), "spec.models.fallbacks", "got 'b g'"),
    "memory-threshold-zero": Bad(models(memoryThreshold=0), "spec.models.memoryThreshold", "greater than 0"),
    "memory-threshold-percent": Bad(models(memoryThreshold=80), "spec.models.memoryThreshold", "got 80"),
}

_WORKER = {
    "drain-short": Bad(worker(drainSeconds=10), "spec.worker", "drainSeconds: got 10", "spec.worker.drainSeconds"),
    "timeout-long": Bad(worker(timeoutSeconds=601), "spec.worker", "timeoutSeconds (601)", "spec.worker.drainSeconds"),
    "concurrency-zero": Bad(worker(concurrency=0), "spec.worker.concurrency", "greater than or equal to 1"),
    "concurrency-float": Bad(worker(concurrency=5.5), "spec.worker.concurrency", "got 5.5"),
    "batch-size": Bad(worker(batchSize=1025), "spec.worker.batchSize", "got 1025"),
    "backend": Bad(worker(backend="vllm"), "spec.worker.backend", "'ollama', 'openai' or 'echo'"),
    "image-with-blank": Bad(worker(image="a b"), "spec.worker.image", "got 'a b'"),
    "env-owned": Bad(
        worker(env=[{"name": "REDIS_URL", "value": "x"}]), "spec.worker", "REDIS_URL", "spec.worker.env[0]"
    ),
    "env-twice": Bad(
        worker(env=[{"name": "A", "value": "x"}] * 2), "spec.worker", "env: A: there more", "spec.worker.env[1]"
    ),
    "env-name": Bad(worker(env=[{"name": "A-B", "value": "x"}]), "spec.worker.env[0].name", "got 'A-B'"),
    "env-number": Bad(worker(env=[{"name": "A", "value": 1}]), "spec.worker.env[0].value", "string"),
    "env-from-a-secret": Bad(
        worker(env=[{"name": "A", "value": "", "valueFrom": {}}]),
        "spec.worker.env[0].valueFrom",
        "allowed here are name, value",
    ),
    "resources": Bad(worker(resources={"limits": {"cpu": "lots"}}), "spec.worker.resources.limits.cpu", "lots"),
    "resources-name": Bad(worker(resources={"limits": {"a b": 1}}), "spec.worker.resources.limits", "got 'a b'"),
    "template-host-network": Bad(
        template(hostNetwork=True), "spec.worker.podTemplate.hostNetwork", "allowed here are labels"
    ),
    "template-label": Bad(template(labels={"a": "b c"}), "spec.worker.podTemplate.labels.a", "got 'b c'"),
    "template-label-key": Bad(template(labels={"a b": "c"}), "spec.worker.podTemplate.labels", "got 'a b'"),
    "template-label-key-long": Bad(template(labels={"a" * 64: "c"}), "spec.worker.podTemplate.labels", "should match"),
    "template-node-selector": Bad(
        template(nodeSelector={"a": "é"}), "spec.worker.podTemplate.nodeSelector.a", "should match"
    ),
    "template-toleration": Bad(
        template(tolerations=[{"key": "a", "effect": "Never"}]),
        "spec.worker.podTemplate.tolerations[0].effect",
        "got 'Never'",
    ),
    "template-toleration-of-nothing": Bad(
        template(tolerations=[{"effect": "NoExecute"}]),
        "spec.worker.podTemplate.tolerations[0]",
        "operator: wanted Exists",
        "spec.worker.podTemplate.tolerations[0].operator",
    ),
    "template-toleration-seconds": Bad(
        template(tolerations=[{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}]),
        "spec.worker.podTemplate.tolerations[0]",
        "tolerationSeconds: only",
        "spec.worker.podTemplate.tolerations[0].tolerationSeconds",
    ),
    "template-priority-class": Bad(
        template(priorityClassName="High"), "spec.worker.podTemplate.priorityClassName", "got 'High'"
    ),
    "template-pull-secret-twice": Bad(
        template(imagePullSecrets=[{"name": "a"}] * 2),
        "spec.worker.podTemplate",
        "imagePullSecrets: a: there more",
        "spec.worker.podTemplate.imagePullSecrets[1]",
    ),
}

_METRICS = {
    "metrics-none": Bad(scaling(metrics=[]), "spec.scaling.metrics", "at least 1"),
    "metrics-too-many": Bad(scaling(metrics=[{"type": "QueueDepth"}] * 9), "spec.scaling.metrics", "at most 8"),
    "metric-unknown": Bad(metric("GPU"), "spec.scaling.metrics[0].type", "'QueueDepth'"),
    "metric-without-type": Bad(scaling(metrics=[{}]), "spec.scaling.metrics[0].type", "missing"),
    "metric-of-two-blocks": Bad(
        metric("QueueDepth", drainTime={}),
        "spec.scaling.metrics[0]",
        "drainTime: not for",
        "spec.scaling.metrics[0].drainTime",
    ),
    "metric-of-another-block": Bad(
        metric("DrainTime", queueDepth={}),
        "spec.scaling.metrics[0]",
        "queueDepth: not for",
        "spec.scaling.metrics[0].queueDepth",
    ),
    "average-value-zero": Bad(depth(0), "spec.scaling.metrics[0].queueDepth.averageValue", "greater than 0"),
    "average-value-zero-in-words": Bad(
        depth("0.0"), "spec.scaling.metrics[0].queueDepth.averageValue", "greater than 0"
    ),
    "average-value-absurd": Bad(
        depth("1001k"), "spec.scaling.metrics[0].queueDepth.averageValue", "less than or equal"
    ),
    "average-value-unit": Bad(depth("5Mi"), "spec.scaling.metrics[0].queueDepth.averageValue", "'5Mi'"),
    "average-value-list": Bad(depth([5]), "spec.scaling.metrics[0].queueDepth.averageValue", "got a list"),
    "drain-time-zero": Bad(
        metric("DrainTime", drainTime={"seconds": 0}), "spec.scaling.metrics[0].drainTime.seconds", "greater than 0"
    ),
    "utilization-above-all": Bad(
        document(ollama={"sidecar": {}}, scaling={"metrics": [{**GPU, "gpuUtilization": {"averageUtilization": 101}}]}),
        "spec.scaling.metrics[0].gpuUtilization.averageUtilization",
        "got 101",
    ),
    "role": Bad(metric("QueueDepth", role="Floor"), "spec.scaling.metrics[0].role", "'Target' or 'Ceiling'"),
    "ceiling-of-a-queue": Bad(
        scaling(metrics=[{"type": "QueueDepth"}, {"type": "DrainTime", "role": "Ceiling"}]),
        "spec.scaling.metrics[1]",
        "role: got Ceiling",
        "spec.scaling.metrics[1].role",
    ),
    "ceiling-alone": Bad(
        scaling(metrics=[GPU_CEILING]), "spec.scaling", "metrics: a Ceiling asks", "spec.scaling.metrics"
    ),
    "ceiling-with-a-sidecar": Bad(
        document(ollama={"sidecar": {}}, scaling={"metrics": [{"type": "QueueDepth"}, GPU_CEILING]}),
        "spec",
        "scaling.metrics[1].role: got Ceiling",
        "spec.scaling.metrics",
    ),
    "gpu-target-on-a-shared-server": Bad(
        scaling(metrics=[{"type": "QueueDepth"}, GPU]),
        "spec",
        "scaling.metrics[1].role: got Target",
        "spec.scaling.metrics",
    ),
    "prometheus-without-a-server": Bad(
        metric("Prometheus", prometheus={"query": "q", "value": 1}), "spec", "needs spec.prometheus", "spec.prometheus"
    ),
    "prometheus-without-a-block": Bad(
        metric("Prometheus", spec={"prometheus": {"url": "http://p"}}),
        "spec.scaling.metrics[0]",
        "prometheus: missing",
        "spec.scaling.metrics[0].prometheus",
    ),
    "prometheus-without-a-query": Bad(
        metric("Prometheus", spec={"prometheus": {"url": "http://p"}}, prometheus={"value": 1}),
        "spec.scaling.metrics[0].prometheus.query",
        "missing",
    ),
    "prometheus-without-a-target": Bad(
        prometheus(), "spec.scaling.metrics[0].prometheus", "neither of averageValue and value"
    ),
    "prometheus-with-two-targets": Bad(
        prometheus(value=1, averageValue=1), "spec.scaling.metrics[0].prometheus", "both of averageValue and value"
    ),
    "prometheus-target-zero": Bad(prometheus(value="0"), "spec.scaling.metrics[0].prometheus.value", "greater than 0"),
    "prometheus-server-neither": Bad(document(prometheus={}), "spec.prometheus", "neither of url and service"),
    "prometheus-server-host": Bad(document(prometheus={"url": "http://[bad"}), "spec.prometheus.url", "should match"),
    "prometheus-server-port": Bad(document(prometheus={"url": "http://p:x"}), "spec.prometheus.url", "should match"),
    "prometheus-server-login": Bad(document(prometheus={"url": "http://u:p@p"}), "spec.prometheus.url", "should match"),
}

_SCALING = {
    "min-above-max": Bad(scaling(minReplicas=11), "spec.scaling", "minReplicas: got 11", "spec.scaling.minReplicas"),
    "max-zero": Bad(scaling(maxReplicas=0), "spec.scaling.maxReplicas", "got 0"),
    "max-absurd": Bad(scaling(maxReplicas=10_001), "spec.scaling.maxReplicas", "got 10001"),
    "idle-negative": Bad(scaling(idleSeconds=-1), "spec.scaling.idleSeconds", "got -1"),
    "window": Bad(
        up(stabilizationWindowSeconds=3601), "spec.scaling.behavior.scaleUp.stabilizationWindowSeconds", "got 3601"
    ),
    "tolerance-percent": Bad(up(tolerance="5%"), "spec.scaling.behavior.scaleUp.tolerance", "'5%'"),
    "tolerance-negative": Bad(up(tolerance=-0.1), "spec.scaling.behavior.scaleUp.tolerance", "got -0.1"),
    "tolerance-absurd": Bad(up(tolerance="1001"), "spec.scaling.behavior.scaleUp.tolerance", "less than or equal"),
    "select-policy": Bad(
        up(selectPolicy="Most"), "spec.scaling.behavior.scaleUp.selectPolicy", "'Max', 'Min' or 'Disabled'"
    ),
    "policies-none": Bad(up(policies=[]), "spec.scaling.behavior.scaleUp.policies", "at least 1"),
    "policy-value": Bad(policy(value=0), "spec.scaling.behavior.scaleUp.policies[0].value", "got 0"),
    "policy-period": Bad(
        policy(periodSeconds=1801), "spec.scaling.behavior.scaleUp.policies[0].periodSeconds", "got 1801"
    ),
    "policy-type": Bad(policy(type="Nodes"), "spec.scaling.behavior.scaleUp.policies[0].type", "'Pods' or 'Percent'"),
    "fallback-without-size": Bad(scaling(fallback={"afterSeconds": 1}), "spec.scaling.fallback.replicas", "missing"),
    "fallback-above-max": Bad(
        scaling(fallback={"replicas": 11}), "spec.scaling", "fallback.replicas: got 11", "spec.scaling.fallback"
    ),
    "schedule-without-bounds": Bad(
        scaling(schedules=[{"cron": "0 7 * * *"}]),
        "spec.scaling",
        "schedules[0]: got neither",
        "spec.scaling.schedules[0]",
    ),
    "schedule-above-max": Bad(
        schedule(minReplicas=11), "spec.scaling", "schedules[0]: minReplicas 11", "spec.scaling.schedules"
    ),
    "schedule-below-min": Bad(
        scaling(minReplicas=3, schedules=[{"cron": "0 7 * * *", "maxReplicas": 2}]),
        "spec.scaling",
        "schedules[0]: minReplicas 3",
        "spec.scaling.schedules",
    ),
    "cron-of-four-fields": Bad(schedule(cron="0 7 * *  "), "spec.scaling.schedules[0].cron", "should match"),
    "cron-of-six-fields": Bad(schedule(cron="0 0 7 * * *"), "spec.scaling.schedules[0].cron", "should match"),
    "cron-of-the-25th-hour": Bad(schedule(cron="0 24 * * *"), "spec.scaling.schedules[0].cron", "wanted minute"),
    "cron-in-words": Bad(schedule(cron="every day at 7 am"), "spec.scaling.schedules[0].cron", "wanted minute"),
    "timezone": Bad(schedule(timezone="Europe/Berlin CET"), "spec.scaling.schedules[0].timezone", "should match"),
    "schedules-too-many": Bad(
        scaling(schedules=[{"cron": "0 7 * * *", "minReplicas": 1}] * 33), "spec.scaling.schedules", "at most 32"
    ),
}

BAD_SPECS: dict[str, Bad] = {**_WHO, **_QUEUES, **_REDIS, **_OLLAMA, **_MODELS, **_WORKER, **_METRICS, **_SCALING}
