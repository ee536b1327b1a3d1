"""The demo's model: a given server, a local Ollama, else llama.cpp with packaged weights; or no model at all (echo).

What it finds is a backend of the worker (`ollama`, `openai`, `echo`), its base URL and the model's name for the jobs.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from llmpool_cli.demo import model_catalog, weights
from llmpool_cli.demo.child import Child, ProviderError

LOCAL_OLLAMA = "http://localhost:11434"
LOAD_SECONDS = 120.0
MAX_THREADS = 8
WAYS_OUT = "Start Ollama and `ollama pull gemma3:270m`, or run the demo with --backend echo."

Say = Callable[[str], None]
Backend = Literal["ollama", "openai", "echo"]


@dataclass(frozen=True)
class ModelChoice:
    """What the user asked for. `backend="echo"` needs no model; `gguf`, a file of weights, goes before any server."""

    backend: Literal["auto", "echo"] = "auto"
    model: str | None = None
    gguf: Path | None = None
    slots: int = 4


@dataclass(frozen=True)
class ModelEnd:
    """A model that answers. `base_url` has no `/v1` and is empty for `echo`; `kind` is for people."""

    backend: Backend
    base_url: str
    model: str
    kind: str


@contextmanager
def open_model(choice: ModelChoice, env: Mapping[str, str], say: Say, local: str = LOCAL_OLLAMA) -> Iterator[ModelEnd]:
    """A model for the length of the block; a server started for it is stopped at the end.

    `local` is where an Ollama is looked for when OLLAMA_BASE_URL is unset; `say` gets lines of progress.

    ProviderError: OLLAMA_BASE_URL doesn't answer or lacks the model, the file isn't there, or llama.cpp can't run here.
    """
    if choice.backend == "echo":
        yield ModelEnd("echo", "", choice.model or "echo", "echo, no model")
        return
    found = None if choice.gguf else find_server(choice, env, say, local)
    if found is not None:
        yield found
        return
    with embedded(choice, env, say) as end:
        yield end


def find_server(choice: ModelChoice, env: Mapping[str, str], say: Say, local: str) -> ModelEnd | None:
    """The server at OLLAMA_BASE_URL if set (it must serve), else a local Ollama with a chat model, else None."""
    given = env.get("OLLAMA_BASE_URL", "")
    url = (given or local).rstrip("/").removesuffix("/v1")
    catalog = model_catalog.read(url)
    if catalog is None:
        if given:
            raise ProviderError(
                f"OLLAMA_BASE_URL ({model_catalog.without_user(url)}) answers neither /api/tags nor /v1/models. "
                "Start that server, correct the address, or unset it."
            )
        return None
    model = catalog.pick(choice.model)
    if model is not None:
        name = "Ollama" if catalog.backend == "ollama" else "an OpenAI-compatible server"
        return ModelEnd(catalog.backend, url, model, f"{model} by {name} at {model_catalog.without_user(url)}")
    if given or choice.model:
        wanted = f"no model {choice.model}" if choice.model else "no chat model"
        raise ProviderError(
            f"{model_catalog.without_user(url)} has {wanted} (it lists: {', '.join(catalog.names) or 'none'}). "
            "Pull one (`ollama pull gemma3:270m`), or name one of the list with --model."
        )
    say(f"Ollama at {url} has no chat model; using the packaged one.")
    return None


@contextmanager
def embedded(choice: ModelChoice, env: Mapping[str, str], say: Say) -> Iterator[ModelEnd]:
    """llama.cpp in a child process, with the given weights or the packaged ones."""
    given = weights.given(choice.gguf) if choice.gguf else None
    if find_spec("xllamacpp") is None:
        raise ProviderError(f"The xllamacpp wheel (llama.cpp) isn't installed; not every platform has one. {WAYS_OUT}")
    gguf = given or weights.packaged(env, say)
    model = choice.model or (choice.gguf.stem if choice.gguf else weights.MODEL)
    with tempfile.TemporaryDirectory(prefix="llmpool-model-") as folder:
        say(f"Loading {model} into llama.cpp ...")
        argv = server_argv(gguf, model, choice.slots, compute_threads(usable_cpus()), plain=choice.gguf is None)
        with closing(Child("llama.cpp", argv, Path(folder))) as child:
            try:
                url = str(child.wait_until(child.announced, LOAD_SECONDS)["url"])
            except ProviderError as error:
                raise ProviderError(f"{error}\n{WAYS_OUT}") from error
            yield ModelEnd("openai", url, model, f"{model} by llama.cpp (xllamacpp), started for this")


def server_argv(gguf: Path, model: str, slots: int, threads: int, *, plain: bool) -> list[str]:
    """The command line of the model server."""
    argv = [sys.executable, "-m", "llmpool_cli.demo.model_server", "--gguf", str(gguf), "--alias", model]
    argv += ["--slots", str(slots), "--threads", str(threads)]
    return [*argv, "--plain"] if plain else argv


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def compute_threads(cpus: int) -> int:
    """Threads for llama.cpp: half of the CPUs, 1 to 8.

    Its threads meet at a spinning barrier many times a token: with one on each CPU, anything else that runs (workers,
    Redis) holds all of them up. Measured on two CPUs, one of them busy: two threads 1.1 tokens/s, one thread 18.
    """
    return max(1, min(MAX_THREADS, cpus // 2))
