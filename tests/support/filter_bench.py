"""Filters over one rules file, and what they counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from llmpool_contract import Job
from llmpool_worker.filters import Blocked, Filters, OutputFilter, Passed
from llmpool_worker.filters.file import RulesFile
from llmpool_worker.filters.rules import Analyze, read_rules
from llmpool_worker.filters.spec import PresidioSpec


def one(**fields: str) -> str:
    """A file with one rule; values are YAML."""
    given = {"id": "r", "action": "block", "match": "{keywords: [secret]}"} | fields
    return "rules:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in given.items())


def nothing(_spec: PresidioSpec) -> Analyze:
    """An analyzer that finds nothing."""
    return lambda _text: []


class Bench:
    """Filters over a rules file, and what they counted."""

    def __init__(self, path: Path, text: str, analyzer: Analyze | None = None) -> None:
        self.path = path
        self.counted: list[tuple[str, str, str]] = []
        path.write_text(text)
        file = RulesFile(path, lambda text, name: read_rules(text, name, lambda spec: analyzer or nothing(spec)))
        self.filters = Filters(file, None, lambda *what: self.counted.append(what))

    async def input(self, job: Job, queue: str = "q") -> Passed | Blocked:
        """Look at a job."""
        return await self.filters.input(job, queue)

    def output(self, job: Job) -> OutputFilter:
        """For an answer; there are rules for it."""
        found = self.filters.output(job, "q")
        assert found is not None
        return found


@asynccontextmanager
async def bench(folder: Path, text: str, analyzer: Analyze | None = None) -> AsyncIterator[Bench]:
    """A bench whose threads end with the test."""
    made = Bench(folder / "rules.yaml", text, analyzer)
    try:
        yield made
    finally:
        await made.filters.aclose()


def chat(content: str = "hello", **fields: object) -> Job:
    """A chat job of one turn."""
    return Job.model_validate(
        {"id": "7", "type": "chat", "model": "m", "messages": [{"role": "user", "content": content}], **fields}
    )


def generate(prompt: str, **fields: object) -> Job:
    """A generate job."""
    return Job.model_validate({"type": "generate", "model": "m", "prompt": prompt, **fields})
