"""Draws the pictures of the documents, docs/img/*.svg: `make docs`."""

from __future__ import annotations

from pathlib import Path

from tools.drawing import Drawing

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "img"


def overview() -> str:
    """The whole of it: who talks to whom."""
    picture = Drawing(
        900,
        400,
        "LLM Worker Pool, the whole of it",
        "Producers push jobs into Redis lists. Workers take them, ask a model server and leave the results in Redis. "
        "The operator counts the jobs in Redis and sizes the pool of workers.",
    )
    picture.box(30, 60, 150, 90, "Producers", "any language,", "llmpool, a gateway")
    picture.frame(255, 20, 190, 215, "Redis")
    picture.box(275, 55, 150, 66, "Queues", "lists of JSON jobs", kind="store")
    picture.box(275, 150, 150, 66, "Results, streams", "by the job's id", kind="store")
    picture.frame(520, 20, 170, 215, "The pool: 0 to n")
    for number in range(3):
        picture.box(540, 50 + number * 58, 130, 46, f"Worker {number + 1}", kind="ours")
    picture.box(745, 80, 130, 90, "Model server", "Ollama, vLLM,", "llama.cpp", kind="model")
    picture.box(520, 300, 170, 76, "Operator", "decides each second,", "says why", kind="ours")
    picture.arrow([(180, 85), (275, 85)], "RPUSH", (217, 77))
    picture.arrow([(275, 183), (105, 183), (105, 150)], "wait, read, stream", (166, 201))
    picture.arrow([(425, 85), (540, 85)], "claim", (482, 77))
    picture.arrow([(540, 183), (425, 183)], "settle", (482, 201))
    picture.arrow([(690, 125), (745, 125)], "ask", (716, 117))
    picture.arrow([(350, 235), (350, 338), (520, 338)], "counts jobs, reads reports", (435, 356), faint=True)
    picture.arrow([(605, 300), (605, 235)], "sizes, drains", (655, 272))
    return picture.svg()


def job() -> str:
    """A job's way through a worker."""
    picture = Drawing(
        940,
        440,
        "A job's way",
        "A push puts a job into a ready list. A worker peeks, claims it under a lease, checks, runs, settles, tells. "
        "Settling writes the result, or delays a retry, or buries the job. An ended lease makes the job ready again.",
    )
    picture.box(20, 50, 110, 60, "Producer")
    picture.box(190, 40, 150, 80, "Ready lists", "q, {q}:high, {q}:low", kind="store")
    for number, name in enumerate(("claim", "check", "run", "settle", "tell")):
        picture.box(190 + number * 150, 200, 100, 50, name, kind="ours")
        if number:
            picture.arrow([(140 + number * 150, 225), (190 + number * 150, 225)])
    picture.box(20, 330, 160, 80, "In flight", "{q}:claimed, {q}:lease", kind="store")
    picture.box(475, 50, 130, 60, "Model server", kind="model")
    picture.box(400, 340, 130, 66, "Stream", "{q}:stream:id", kind="store")
    picture.box(555, 340, 175, 66, "Result", "{q}:result:id, {q}:events", kind="store")
    picture.box(755, 340, 160, 66, "Dead letters", "{q}:dead", kind="store")
    picture.box(750, 50, 160, 60, "Delayed", "{q}:delayed", kind="store")
    picture.arrow([(130, 80), (190, 80)], "push", (160, 72))
    picture.arrow([(225, 120), (225, 200)], "peek, claim", (188, 186))
    picture.arrow([(215, 250), (215, 300), (130, 300), (130, 330)], "lease", (172, 292))
    picture.arrow([(60, 330), (60, 150), (255, 150), (255, 120)], "lease ended", (100, 142), faint=True)
    picture.arrow([(540, 200), (540, 110)], "request", (570, 160))
    picture.arrow([(515, 250), (515, 340)], "pieces", (490, 300))
    picture.arrow([(665, 250), (665, 340)], "answer", (640, 300))
    picture.arrow([(680, 250), (680, 290), (830, 290), (830, 340)], "no way", (790, 282))
    picture.arrow([(690, 200), (690, 80), (750, 80)], "retry", (712, 72))
    picture.arrow([(830, 50), (830, 22), (265, 22), (265, 40)], "due", (548, 16), faint=True)
    return picture.svg()


def turn() -> str:
    """A pool's turn in the operator."""
    picture = Drawing(
        990,
        310,
        "A pool's turn",
        "Watches and lists fill a store. Once a second the operator observes store and Redis, decides a size with its "
        "reason, acts on the Deployment or on processes, and reports status and Events.",
    )
    picture.box(20, 40, 140, 60, "Kubernetes", "pools, Deployments", kind="store")
    picture.box(20, 220, 140, 60, "Redis", "jobs, reports", kind="store")
    for x, name in ((225, "store"), (355, "observe"), (545, "decide"), (705, "act")):
        picture.box(x, 130, 90, 60, name, kind="ours")
    picture.box(705, 235, 90, 50, "report", kind="ours")
    picture.box(545, 30, 90, 46, "history", kind="store")
    picture.box(835, 120, 120, 80, "Workers", "a Deployment,", "or processes")
    picture.arrow([(160, 70), (270, 70), (270, 130)], "watch, list", (215, 62))
    picture.arrow([(315, 160), (355, 160)])
    picture.arrow([(160, 235), (400, 235), (400, 190)], "one pipelined read", (285, 227))
    picture.arrow([(445, 160), (545, 160)], "readings,", (495, 134))
    picture.text(495, 150, "or why not")
    picture.arrow([(575, 76), (575, 130)])
    picture.arrow([(605, 130), (605, 76)])
    picture.arrow([(635, 160), (705, 160)], "size,", (670, 134))
    picture.text(670, 150, "reason")
    picture.arrow([(795, 160), (835, 160)])
    picture.arrow([(750, 190), (750, 235)])
    picture.arrow(
        [(720, 190), (720, 212), (660, 212), (660, 262), (160, 262)], "drains, preload lists", (420, 254), faint=True
    )
    picture.arrow([(795, 260), (975, 260), (975, 18), (90, 18), (90, 40)], "status, Events", (730, 34), faint=True)
    return picture.svg()


PICTURES = {"overview.svg": overview, "job.svg": job, "turn.svg": turn}

if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (IMAGES / name).write_text(draw(), encoding="utf-8")
