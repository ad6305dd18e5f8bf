"""A service in a process of its own, and a client that knows nothing of the code: http.client and JSON."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from margin_stream import Store

MARGIN_STREAM = [sys.executable, "-m", "margin_stream.cli"]


class Answer:
    """What the service answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Service:
    """A service that runs."""

    def __init__(self, store: Path, *words: str) -> None:
        self.store = store
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*MARGIN_STREAM, "run", "--store", str(store), "--listen", "127.0.0.1:0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "MARGIN_STREAM_COMPILED": os.environ.get("MARGIN_STREAM_COMPILED", "1")},
        )
        self.said: list[str] = []
        self.port = 0
        assert self.process.stderr is not None
        while not self.port:
            line = self.process.stderr.readline().decode()
            assert line, (self.process.wait(), self.said)
            self.said.append(line)
            if found := re.match(r"listening on \w+://[^:]+:(\d+)", line):
                self.port = int(found.group(1))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.decode())

    def ask(
        self, method: str, path: str, token: str | None = None, body: bytes | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            if token is not None:
                given["Authorization"] = f"Bearer {token}"
            connection.request(method, path, body, given)
            return Answer(connection.getresponse())
        except http.client.RemoteDisconnected:
            if self.process.poll() not in (None, -9):
                print("the service ended:", self.process.poll(), *self.said)
            raise
        finally:
            connection.close()

    def get(self, path: str, token: str | None = None, **headers: str) -> Answer:
        return self.ask("GET", path, token, **headers)

    def send(self, token: str, lines: Sequence[bytes]) -> Answer:
        return self.ask("POST", "/v1/inputs", token, b"\n".join(lines), Content_Type="application/x-ndjson")

    def await_ready(self, *, writer: bool = True, within_s: float = 20) -> float:
        """Return how long it took from the start."""
        end = time.monotonic() + within_s
        while True:
            answer = self.get("/readyz")
            if answer.status == 200 and (answer.json["writer"] or not writer):
                return time.monotonic() - self.started
            assert time.monotonic() < end, (answer.body, self.said)
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, *, within_s: float = 20) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running(store: Path, *words: str, writer: bool = True) -> Iterator[Service]:
    """Run a service until the end of the block."""
    service = Service(store, *words)
    try:
        service.await_ready(writer=writer)
        yield service
    finally:
        if service.process.poll() is None:
            service.kill()


def token(store: Path, role: str, *words: str, name: str | None = None) -> str:
    """Make a token; the store is made first where there is none."""
    if not (store / "manifest.json").exists():
        Store.open(store).close()
    command = [
        *MARGIN_STREAM,
        "token",
        "create",
        name or f"{role}-{time.monotonic_ns()}",
        "--role",
        role,
        "--store",
        str(store),
    ]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Events(threading.Thread):
    """A client of the stream that comes again with the last id it saw, whatever happens to it."""

    def __init__(self, port: Any, token: str, *, query: str = "", after: str | None = None) -> None:
        super().__init__(daemon=True)
        self._port, self._token, self._query = port, token, query
        self.last = after
        self.ids: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.connections = 0
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self._follow()
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.02)

    def _follow(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self._token}"}
            if self.last is not None:
                headers["Last-Event-ID"] = self.last
            connection.request("GET", f"/v1/stream{self._query}", headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                time.sleep(0.05)
                return
            self.connections += 1
            fields: dict[str, str] = {}
            while not self.ended.is_set():
                line = response.readline().decode()
                if not line:
                    return
                if line == "\n":
                    if "data" in fields:
                        self.last = fields["id"]
                        self.ids.append(fields["id"])
                        self.rows.append(json.loads(fields["data"]))
                    fields = {}
                elif not line.startswith(":"):
                    name, _, value = line.rstrip("\n").partition(": ")
                    fields[name] = value
        finally:
            connection.close()
