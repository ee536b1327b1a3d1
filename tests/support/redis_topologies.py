"""Redis as it is run for real: a master that Sentinels watch, a cluster of three, TLS with certificates of its own."""

import secrets
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.processes import Child, free_port
from tests.support.redis_server import RedisServer, redis_server_program
from tests.support.waiting import until

START_TIMEOUT_S = 10.0
MASTER = "jobs"
DOWN_AFTER_MS = 500
SLOTS = 16_384


class SentinelSetup:
    """A master, a replica of it, and three Sentinels that agree by two. `with SentinelSetup() as redis: redis.url`."""

    def __init__(self, *, password: str | None = None) -> None:
        self._password = password
        self._folder = Path(tempfile.mkdtemp(prefix="llmpool-sentinels-"))
        self.master = RedisServer(appendonly=True, config={"repl-diskless-sync-delay": "0"})
        self._replica: RedisServer | None = None
        self._ports = [free_port() for _ in range(3)]
        self._ids = [secrets.token_hex(20) for _ in self._ports]

    @property
    def nodes(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.nodes}/{MASTER}/0"

    @property
    def replica(self) -> RedisServer:
        assert self._replica is not None
        return self._replica

    def __enter__(self) -> Self:
        with ExitStack() as started:
            started.callback(shutil.rmtree, self._folder)
            started.enter_context(self.master)
            self._replica = RedisServer(appendonly=True, config={"replicaof": f"127.0.0.1 {self.master.port}"})
            started.enter_context(self._replica)
            until(self._synchronised, START_TIMEOUT_S, "a replica in step")
            for n in range(3):
                started.callback(self._start_sentinel(n).kill)
            until(self._agreed, START_TIMEOUT_S, "Sentinels that know the replica and each other")
            self._started = started.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._started.close()

    def promoted(self) -> bool:
        """Whether the replica is the master by now, in its own eyes and in each Sentinel's."""
        try:
            with self.replica.client() as client:
                if client.role()[0] != "master":
                    return False
        except redis.ConnectionError:  # cut by the promotion itself
            return False
        return all(self._state(port)["port"] == self.replica.port for port in self._ports)

    def _start_sentinel(self, n: int) -> Child:
        config = self._folder / f"sentinel{n}.conf"
        config.write_text("\n".join(self._sentinel_config(n)) + "\n")
        program = [redis_server_program(), str(config), "--sentinel"]
        child = Child(f"sentinel{n}", program, self._folder / f"sentinel{n}.log")
        child.start()
        child.wait_until(lambda: bool(self._state(self._ports[n])), START_TIMEOUT_S, "an answer")
        return child

    def _sentinel_config(self, n: int) -> list[str]:
        others = [(port, name) for port, name in zip(self._ports, self._ids, strict=True) if name != self._ids[n]]
        login = [f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}"]
        return [
            f"port {self._ports[n]}",
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master.port} 2",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} 3000",
            f"sentinel myid {self._ids[n]}",
            # What it would find out by itself within some seconds.
            f"sentinel known-replica {MASTER} 127.0.0.1 {self.replica.port}",
            *(f"sentinel known-sentinel {MASTER} 127.0.0.1 {port} {name}" for port, name in others),
            *(login if self._password else []),
        ]

    def demote(self) -> None:
        """Make what began as the master a replica of the other, as the Sentinels do some seconds after a failover."""
        with self.master.client() as client:
            client.replicaof("127.0.0.1", self.replica.port)

    def fail_over(self) -> None:
        """Have a Sentinel make the replica the master, with both up."""
        with self._client(self._ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", MASTER)

    def _client(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=self._password, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def _state(self, port: int) -> dict[str, object]:
        try:
            with self._client(port) as client:
                return dict(client.sentinel_masters()[MASTER])
        except redis.ConnectionError:
            return {}

    def _synchronised(self) -> bool:
        with self.replica.client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _agreed(self) -> bool:
        states = [self._state(port) for port in self._ports]
        return all((state.get("num-other-sentinels"), state.get("num-slaves")) == (2, 1) for state in states)


class RedisCluster:
    """Three masters that share the slots, without replicas."""

    def __init__(self) -> None:
        self._buses = [free_port() for _ in range(3)]
        config = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        self.servers = [RedisServer(config={**config, "cluster-port": str(bus)}) for bus in self._buses]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{server.port}' for server in self.servers)}"

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for server in self.servers:
                started.enter_context(server)
            share = SLOTS // len(self.servers) + 1
            for n, server in enumerate(self.servers):
                with server.client() as client:
                    slots = range(n * share, min(SLOTS, (n + 1) * share))
                    client.execute_command("CLUSTER ADDSLOTS", *slots)
                    client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
                    client.execute_command("CLUSTER MEET", "127.0.0.1", self.servers[0].port, self._buses[0])
            until(lambda: all(map(self._whole, self.servers)), START_TIMEOUT_S, "a cluster that is up")
            self._started = started.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._started.close()

    def client(self) -> redis.RedisCluster:
        """A plain synchronous client."""
        return redis.RedisCluster("127.0.0.1", self.servers[0].port, decode_responses=True)

    def flush(self) -> None:
        """Remove all keys and scripts of all nodes."""
        for server in self.servers:
            server.flush()

    def owner(self, key: str) -> RedisServer:
        """Who has the key's slot."""
        with self.client() as client:
            node = client.get_node_from_key(key)
        return next(server for server in self.servers if server.port == node.port)

    def move_slot(self, key: str, new: RedisServer) -> None:
        """Move an empty slot to another node, as resharding ends: clients that don't know it yet are redirected."""
        with new.client() as client:
            slot = client.execute_command("CLUSTER KEYSLOT", key)
            node_id = client.execute_command("CLUSTER MYID")
        for server in sorted(self.servers, key=lambda one: one is not new):  # the new owner first
            with server.client() as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", node_id)

    @staticmethod
    def _whole(server: RedisServer) -> bool:
        try:
            with server.client() as client:
                state = client.execute_command("CLUSTER INFO")
        except redis.RedisError:
            return False
        return bool(state["cluster_state"] == "ok" and state["cluster_known_nodes"] == "3")


class Certificates:
    """A certificate authority, a server's certificate for 127.0.0.1, and a client's; all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.server, self.client = (self._signed(name) for name in ("ca", "server", "client"))

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def _signed(self, name: str) -> Path:
        certificate, authority = self.folder / f"{name}.crt", self.folder / "ca.crt"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN=llmpool test {name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-addext", f"basicConstraints={'critical,CA:TRUE' if name == 'ca' else 'CA:FALSE'}"]
        command += ["-keyout", str(self.key(name)), "-out", str(certificate)]
        if name != "ca":
            command += ["-CA", str(authority), "-CAkey", str(self.key("ca"))]
        subprocess.run(command, check=True, capture_output=True)
        return certificate


class TlsServer(RedisServer):
    """A redis-server that speaks TLS alone, and wants a client's certificate if told so."""

    def __init__(self, certificates: Certificates, *, client_certificates: bool = False) -> None:
        self.certificates = certificates
        self.tls_port = free_port()
        config = {
            "tls-port": str(self.tls_port),
            "tls-cert-file": str(certificates.server),
            "tls-key-file": str(certificates.key("server")),
            "tls-ca-cert-file": str(certificates.ca),
            "tls-auth-clients": "yes" if client_certificates else "no",
        }
        super().__init__(config=config)

    @property
    def tls_url(self) -> str:
        return f"rediss://127.0.0.1:{self.tls_port}/0"
