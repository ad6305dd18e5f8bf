"""A real Apache Kafka broker on loopback, from its jars: for demos, tests and benchmarks. Not for keeping anything."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from margin_stream.errors import Error

JARS = Path(__file__).resolve().parents[2] / ".tools" / "kafka" / "libs"
CLUSTER_ID = "bWFyZ2luLXN0cmVhbS0xMA"
START_S = 60


class BrokerError(Error, code="demo_broker_failed"):
    """The broker cannot be started; the text states why and what to do."""


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Secure(NamedTuple):
    """What a broker needs so that clients use TLS and SCRAM-SHA-512."""

    keystore: Path
    """Private key and certificate, PEM in one file."""
    user: str
    """Who may do everything; others may do what access rules (ACLs) allow them."""
    password: str
    others: tuple[str, ...] = ()
    """More users, with the same password."""


class Broker:
    """One broker (KRaft, controller and broker in one), or one node of several."""

    def __init__(
        self,
        folder: Path,
        *,
        node: int = 1,
        ports: tuple[int, int] | None = None,
        voters: dict[int, int] | None = None,
        replicas: int = 1,
        secure: Secure | None = None,
    ) -> None:
        """
        Args:
            folder: for its logs and configuration.
            node: its number.
            ports: of clients and of controllers.
            voters: controller ports by node, of all nodes; left out for a single one.
            replicas: of topics; with 3, two of them must have a message before it counts.
            secure: clients must use TLS and prove who they are.
        """
        self.internal_port = free_port()
        self.folder = folder
        self.node = node
        self.port, self.controller_port = ports or (free_port(), free_port())
        self.process: subprocess.Popen[bytes] | None = None
        quorum = voters or {node: self.controller_port}
        least = max(1, replicas - 1)
        self._secure = secure
        clients, inner, mapped, more = "PLAINTEXT", "", "PLAINTEXT:PLAINTEXT", ""
        if secure is not None:
            clients, inner = "SASL_SSL", f",INTERNAL://127.0.0.1:{self.internal_port}"
            mapped = "SASL_SSL:SASL_SSL,INTERNAL:PLAINTEXT"
            more = f"""
inter.broker.listener.name=INTERNAL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={secure.keystore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{secure.user};User:ANONYMOUS
"""
        self._settings = f"""
process.roles=broker,controller
node.id={node}
controller.quorum.voters={",".join(f"{number}@127.0.0.1:{port}" for number, port in sorted(quorum.items()))}
listeners={clients}://127.0.0.1:{self.port}{inner},CONTROLLER://127.0.0.1:{self.controller_port}
advertised.listeners={clients}://127.0.0.1:{self.port}{inner}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,{mapped}
log.dirs={folder / "logs"}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={least}
default.replication.factor={replicas}
min.insync.replicas={least}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
num.partitions=1
log.cleaner.dedupe.buffer.size=16777216
broker.session.timeout.ms=6000
log.segment.delete.delay.ms=1000
{more}"""

    @property
    def server(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def java(self, *arguments: str, memory: str = "256m") -> list[str]:
        """Return the command that runs a class of Kafka's."""
        java = shutil.which("java")
        if java is None:
            raise BrokerError("no java here: install openjdk-17-jre-headless")
        if not (JARS / ".complete").exists():
            raise BrokerError(f"no Kafka in {JARS}: `make kafka` fetches it", file=JARS)
        options = [f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [java, *options, "-cp", f"{JARS}/*", *arguments]

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it answers.

        Raises:
            BrokerError: it does not come up.
        """
        settings = self.folder / "server.properties"
        if not settings.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            settings.write_text(self._settings)
            command = self.java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings))
            if self._secure is not None:
                for user in (self._secure.user, *self._secure.others):
                    command += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={self._secure.password}]"]
            done = subprocess.run(command, capture_output=True, check=False, timeout=START_S)
            if done.returncode:
                raise BrokerError(f"formatting failed: {(done.stderr or done.stdout).decode(errors='replace')[-400:]}")
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.java("kafka.Kafka", str(settings)), stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it takes connections."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if not self.alive:
                log = self.folder / "broker.log"
                raise BrokerError(f"the broker ended by itself; see {log}", file=log)
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise BrokerError(f"the broker does not answer at {self.server} after {START_S} s", servers=self.server)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Stop it, by force where it takes longer than ten seconds."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
