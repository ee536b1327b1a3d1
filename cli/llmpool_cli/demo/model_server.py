"""llama.cpp's own OpenAI-compatible server, from the xllamacpp wheel, as a program.

Run as `python -m llmpool_cli.demo.model_server --gguf FILE`; prints `{"url": "http://127.0.0.1:N"}` when the model is
loaded, logs to stderr, and ends at end of file on stdin.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DEFAULT_SLOTS = 4
DEFAULT_CONTEXT = 2048
DEFAULT_MAX_TOKENS = 256

# For weights that were never taught a chat format (Gemma's base model): a plain exchange, which they continue well.
PLAIN_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == "user" -%}{{ "Question: " + message.content + "\\n" }}
{%- elif message.role == "assistant" -%}{{ "Answer: " + message.content + "\\n\\n" }}
{%- else -%}{{ message.content + "\\n\\n" }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "Answer:" }}{%- endif -%}
"""
PLAIN_STOPS = ["\nQuestion:", "\n\n\n"]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The program's options."""
    parser = argparse.ArgumentParser(prog="llmpool_cli.demo.model_server", description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True, help="weights")
    parser.add_argument("--alias", default="", help="the model's name in requests and answers (default: the file's)")
    parser.add_argument("--port", type=int, default=0, help="loopback port (default: any free one)")
    parser.add_argument("--slots", type=int, default=DEFAULT_SLOTS, help="requests that run at once")
    parser.add_argument("--context", type=int, default=DEFAULT_CONTEXT, help="tokens of context for each slot")
    parser.add_argument("--threads", type=int, required=True, help="threads that compute")
    parser.add_argument("--plain", action="store_true", help="question and answer as plain text, for a base model")
    return parser.parse_args(argv)


def server_params(options: argparse.Namespace) -> Any:
    """llama.cpp's parameters for `options`: loopback only, CPU, no web page, no caches beyond the slots' own."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(options.gguf)
    params.model_alias = {options.alias or options.gguf.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.n_predict = DEFAULT_MAX_TOKENS  # for requests that give no limit: a base model rarely ends by itself
    params.n_batch = 512
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.fit_params = False  # a fit to GPU memory, which takes longer than loading a small model
    params.cache_ram_mib = 0
    params.n_ctx_checkpoints = 0
    params.verbosity = 2  # warnings; the next level logs each request
    params.ui = False
    params.cors_origins = ""
    params.endpoint_slots = False  # it would show prompts
    if options.plain:
        params.chat_template = PLAIN_TEMPLATE
        params.antiprompt = PLAIN_STOPS
    return params


def main() -> None:
    options = parse()
    import xllamacpp

    server = xllamacpp.Server(server_params(options))
    print(json.dumps({"url": server.listening_address}), flush=True)  # noqa: T201 (the parent reads it)
    sys.stdin.buffer.read()  # until the parent closes it, or is gone


if __name__ == "__main__":
    main()
