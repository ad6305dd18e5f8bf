"""The service: what it answers, to whom, and that nothing acknowledged is lost, whatever ends it."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from margin_stream import Store
from tests.integration.test_errors import command
from tests.service.running import MARGIN_STREAM, Events, Service, running, token


def day(accounts: int = 30, seed: int = 3, scenario: str = "crash") -> list[bytes]:
    words = ["simulate", "--scenario", scenario, "--accounts", str(accounts), "--seed", str(seed)]
    return command(*words)[2].splitlines()


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return day()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> Iterator[tuple[Service, str]]:
    """A service with a day in it, and a token that may everything."""
    store = tmp_path_factory.mktemp("service") / "s"
    with running(store, "--partitions", "3") as service:
        operations = token(store, "operations")
        for start in range(0, len(lines), 2000):
            assert service.send(operations, lines[start : start + 2000]).status == 200
        yield service, operations


pytestmark = pytest.mark.slow(reason="runs a service")


def test_it_serves_within_two_seconds_and_stops_cleanly(tmp_path: Path) -> None:
    service = Service(tmp_path / "s")
    try:
        assert service.await_ready() < 4  # Two on a quiet machine; tests run beside others.
        assert service.get("/livez").json == {"alive": True}
        assert service.stop() == 143
        assert command("verify", "--store", str(tmp_path / "s"))[0] == 0
    finally:
        service.kill()


def test_answers_are_those_of_the_command_line(served: tuple[Service, str], tmp_path: Path) -> None:
    service, operations = served
    store = str(service.store)
    for path, words in (
        ("/v1/accounts?short=true&limit=1000", ["accounts", "--short"]),
        ("/v1/calls?limit=1000", ["calls"]),
        ("/v1/calls?open=true&limit=1000", ["calls", "--open"]),
    ):
        rows = [json.loads(line) for line in command(*words, "--store", store)[2].splitlines()]
        answer = service.get(path, operations).json
        assert answer["items"] == rows
        assert answer["total"] == len(rows)
    account = service.get("/v1/accounts?limit=1", operations).json["items"][0]["account"]
    shown = json.loads(command("state", "--account", account, "--store", store)[2])
    assert service.get(f"/v1/accounts/{account}", operations).json == shown
    then = "2021-05-19T06:00:00Z"
    shown = json.loads(command("state", "--account", account, "--at", then, "--store", store)[2])
    assert service.get(f"/v1/accounts/{account}?at={then}", operations).json == shown
    call = service.get("/v1/calls?limit=1", operations).json["items"][0]["call"]
    assert service.get(f"/v1/calls/{call}", operations).json["history"]
    digest = json.loads(command("digest", "--store", store)[2])
    assert service.get("/v1/digest", operations).json["state_digest"] == digest["state_digest"]


def test_pages_go_on_without_a_gap(served: tuple[Service, str]) -> None:
    service, operations = served
    whole = service.get("/v1/accounts?limit=1000", operations).json["items"]
    found: list[Any] = []
    cursor: str | None = "0"
    while cursor is not None:
        answer = service.get(f"/v1/accounts?limit=7&cursor={cursor}", operations).json
        found += answer["items"]
        cursor = answer["next"]
    assert found == whole
    effects: list[Any] = []
    after = 0
    while rows := service.get(f"/v1/effects?limit=50&after={after}", operations).json:
        effects += rows
        after = rows[-1]["sequence"]
    wanted = [
        json.loads(line) for line in command("events", "--effects", "--store", str(service.store))[2].splitlines()
    ]
    assert effects == wanted != []


def test_what_the_caller_has_already_is_not_sent_again(served: tuple[Service, str]) -> None:
    service, operations = served
    first = service.get("/v1/accounts", operations)
    assert service.get("/v1/accounts", operations, If_None_Match=first.headers["etag"]).status == 304
    assert service.get("/v1/accounts?limit=3", operations).headers["etag"] != first.headers["etag"]
    packed = service.get("/v1/accounts", operations, Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body)) == first.json


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/accounts/NOBODY", 404, "account_unknown"),
        ("/v1/calls/NOBODY/call/1", 404, "call_unknown"),
        ("/v1/calls?account=NOBODY", 404, "account_unknown"),
        ("/v1/accounts?desk=none", 404, "desk_unknown"),
        ("/v1/accounts?level=DEEP", 400, "parameter_invalid"),
        ("/v1/accounts?near=x", 400, "parameter_invalid"),
        ("/v1/accounts?limit=0", 400, "parameter_invalid"),
        ("/v1/accounts?limit=1001", 400, "parameter_invalid"),
        ("/v1/accounts?short=perhaps", 400, "parameter_invalid"),
        ("/v1/accounts?shrt=true", 400, "parameter_unknown"),
        ("/v1/accounts?at=yesterday", 400, "time_invalid"),
        ("/v1/effects?type=no_such", 400, "parameter_invalid"),
        ("/v1/stream?type=no_such", 400, "parameter_invalid"),
        ("/v1/stream?after=x", 400, "parameter_invalid"),
        ("/v1/nothing", 404, "not_found"),
    ],
)
def test_a_wrong_question_is_a_problem_with_its_code(
    served: tuple[Service, str], path: str, status: int, code: str
) -> None:
    service, operations = served
    answer = service.get(path, operations)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"].startswith("application/problem+json")


# ---- inputs ----------------------------------------------------------------------------------------------------------


def test_inputs_come_in_every_form_and_each_has_its_verdict(tmp_path: Path, lines: list[bytes]) -> None:
    with running(tmp_path / "s") as service:
        operations = token(tmp_path / "s", "operations")
        answer = service.send(operations, [*lines[:10], b"garbage", lines[0]])
        assert answer.status == 200
        verdicts = [row["verdict"] for row in answer.json["inputs"]]
        assert verdicts == ["accepted"] * 10 + ["refused", "duplicate"]
        assert answer.json["inputs"][10]["reason"] == "not_json"
        body = b"[" + b",\n ".join(lines[10:15]) + b"]"
        answer = service.ask("POST", "/v1/inputs", operations, body, Content_Type="application/json")
        assert answer.json["accepted"] == 5
        spread = json.dumps(json.loads(lines[15]), indent=1).encode()
        answer = service.ask("POST", "/v1/inputs", operations, spread, Content_Type="application/json")
        assert answer.json["accepted"] == 1
        for body, kind, status in (
            (b"", "application/json", 400),
            (b"[1,", "application/json", 400),
            (b"x", "image/png", 415),
            (b"x" * (9 << 20), "application/x-ndjson", 413),
        ):
            assert service.ask("POST", "/v1/inputs", operations, body, Content_Type=kind).status == status
        last = service.get("/v1/digest", operations).json["last"]
        assert service.stop() == 143
    whole = Store.read(tmp_path / "s")
    assert whole.digests().sequence == last == 17
    assert whole.verify().ok


def test_an_action_has_its_identity_from_its_key(tmp_path: Path, lines: list[bytes]) -> None:
    with running(tmp_path / "s") as service:
        operations = token(tmp_path / "s", "operations", name="anna")
        assert service.send(operations, lines[:200]).status == 200
        action = {
            "type": "mark_confirmed",
            "event_time": "2021-05-19T00:00:00Z",
            "instrument": "BTCUSDT",
            "price": "40000",
            "actor": "anna",
        }
        send = [("POST", "/v1/inputs", operations, json.dumps(action).encode())] * 2
        verdicts = [
            service.ask(*words, Content_Type="application/json", Idempotency_Key="k-1").json["inputs"][0]["verdict"]
            for words in send
        ]
        assert verdicts == ["accepted", "duplicate"]
        other = json.dumps(action | {"price": "40001"}).encode()
        answer = service.ask(
            "POST", "/v1/inputs", operations, other, Content_Type="application/json", Idempotency_Key="k-1"
        )
        assert answer.json["inputs"][0]["reason"] == "identity_reused"
        event = service.get("/v1/events?type=mark_confirmed", operations).json[0]
        assert (event["source"], event["source_seq"]) == ("api/anna/k-1", 1)


@pytest.mark.parametrize("trials", [50])
def test_kill_9_at_any_moment_loses_nothing_acknowledged(tmp_path: Path, lines: list[bytes], trials: int) -> None:
    """The process is killed by its id while clients send; what was acknowledged is there, once, and digests are those of
    a day without kills."""
    rng = random.Random(11)
    store, sent, acked = tmp_path / "s", 0, 0
    operations = token(store, "operations")
    for _ in range(trials):
        service = Service(store)
        killer = threading.Timer(rng.uniform(0.05, 0.5), service.process.kill)
        try:
            service.await_ready()
            killer.start()
            while sent < len(lines):
                count = rng.randint(1, 60)
                answer = service.send(operations, lines[sent : sent + count])
                assert answer.status == 200
                acked = sent = min(sent + count, len(lines))
        except (OSError, AssertionError) as error:
            if isinstance(error, AssertionError) and service.process.poll() is None:
                raise
        finally:
            killer.cancel()
            service.kill()
        found = Store.read(store).digests().sequence
        assert acked <= found <= acked + 60
        sent = acked  # What was not acknowledged is sent again.
    with running(store) as service:
        assert service.send(operations, lines[max(0, acked - 500) :]).status == 200 if acked < len(lines) else True
        assert service.stop() == 143
    with Store.open(tmp_path / "whole") as whole:
        whole.ingest(lines[: Store.read(store).digests().sequence])
        assert Store.read(store).digests() == whole.digests()


# ---- who may what ----------------------------------------------------------------------------------------------------


def paths(service: Service, operations: str) -> list[tuple[str, str]]:
    document = service.get("/v1/openapi.json", operations).json
    found = [("GET", "/metrics"), ("GET", "/v1/openapi.json")]
    for path, methods in document["paths"].items():
        if path not in ("/livez", "/readyz"):
            found += [(method.upper(), path) for method in methods]
    assert len(found) > 12
    return found


def test_nothing_but_health_answers_without_a_token(served: tuple[Service, str]) -> None:
    service, operations = served
    expired = token(service.store, "viewer", name="gone")
    subprocess.run(
        [*MARGIN_STREAM, "token", "revoke", "gone", "--store", str(service.store)], check=True, capture_output=True
    )
    for method, path in paths(service, operations):
        concrete = path.replace("{account}", "A-000001").replace("{number}", "1")
        for given in (None, "mst_wrong", "", expired, operations[:-1], operations.upper()):
            answer = service.ask(method, concrete, given, b"{}" if method == "POST" else None)
            assert answer.status == 401, (method, path, given)
            assert b"A-0000" not in answer.body
    assert service.get("/livez").status == service.get("/readyz").status == 200


def test_a_desk_sees_nothing_of_another_desk_counts_included(served: tuple[Service, str]) -> None:
    service, operations = served
    everything = service.get("/v1/accounts?limit=1000", operations).json["items"]
    desks = sorted({row["desk"] for row in everything})
    mine, other = desks[0], desks[1]
    own = {row["account"] for row in everything if row["desk"] == mine}
    foreign = {row["account"] for row in everything} - own
    desk = token(service.store, "desk", "--desk", mine)
    one = sorted(own)[0]
    client = token(service.store, "client", "--account", one)
    for holder, visible in ((desk, own), (client, {one})):
        for method, path in paths(service, operations):
            if path == "/v1/stream" or method == "POST":
                continue
            for account in (sorted(foreign)[0], one):
                concrete = path.replace("{account}", account).replace("{number}", "1")
                answer = service.get(concrete, holder)
                assert answer.status in (200, 403, 404)
                hidden = {row["account"] for row in everything} - visible
                assert not any(name.encode() in answer.body for name in hidden if name != account)
                if account not in visible and "{account}" in path:
                    assert answer.status == 404
                    assert answer.json["code"] in ("account_unknown", "call_unknown")
        answer = service.get("/v1/accounts?limit=1000", holder).json
        assert {row["account"] for row in answer["items"]} == visible
        assert answer["total"] == sum(row["account"] in visible for row in everything)
        short = {row["account"] for row in everything if row["short"]} & visible
        assert service.get("/v1/summary", holder).json["accounts_short"] == len(short)
        for row in service.get("/v1/effects?limit=1000", holder).json:
            assert row["account"] in visible
        for path in (f"/v1/accounts?desk={other}", f"/v1/calls?desk={other}", f"/v1/stream?desk={other}"):
            answer = service.get(path, holder)
            assert (answer.status, answer.json["code"]) == (404, "desk_unknown")
            assert not any(name.encode() in answer.body for name in desks if name != other)
        for path in ("/v1/events", "/v1/quarantine", "/v1/digest", "/metrics"):
            assert service.get(path, holder).status == 403
        assert service.send(holder, [b"{}"]).status == 403


def test_tokens_are_kept_as_hashes_and_end(tmp_path: Path) -> None:
    store = tmp_path / "s"
    text = token(store, "viewer", name="v")
    file = store / "access" / "tokens.json"
    assert text not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    with running(store) as service:
        assert service.get("/v1/accounts", text).status == 200
        rows = json.loads(file.read_text())
        rows[0]["expires"] = "2020-01-01T00:00:00+00:00"
        file.write_text(json.dumps(rows))
        assert service.get("/v1/accounts", text).status == 401
        file.write_text("{")
        answer = service.get("/v1/accounts", text)
        assert (answer.status, answer.json["code"]) == (503, "tokens_damaged")


# ---- the stream ------------------------------------------------------------------------------------------------------


def recorded(store: Path) -> list[str]:
    return [f"{row['sequence']}-{row['id']}" for row in Store.read(store).effects()]


def eventually(holds: Any, *, within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_client_has_the_whole_sequence_over_restarts(tmp_path: Path, lines: list[bytes]) -> None:
    store, port = tmp_path / "s", [0]
    operations = token(store, "operations")
    clients = [Events(lambda: port[0], operations, after="0") for _ in range(8)]
    step = -(-len(lines) // 20)
    for number in range(20):
        service = Service(store)
        port[0] = service.port
        service.await_ready()
        part = lines[number * step : (number + 1) * step]
        for start in range(0, len(part), 200):
            assert service.send(operations, part[start : start + 200]).status == 200
        if number % 2:
            service.kill()
        else:
            assert service.stop(within_s=30) == 143
    with running(store) as service:
        port[0] = service.port
        wanted = recorded(store)
        assert len(wanted) > 100
        eventually(lambda: all(len(client.ids) >= len(wanted) for client in clients))
        for client in clients:
            client.ended.set()
            assert client.ids == wanted
            assert client.connections >= 10


def test_a_stream_is_of_a_desk_or_of_some_types(served: tuple[Service, str], lines: list[bytes]) -> None:
    service, operations = served
    everything = list(Store.read(service.store).effects())
    desks = {row["account"]: row["desk"] for row in service.get("/v1/accounts?limit=1000", operations).json["items"]}
    mine = Counter(desks.get(row.get("account", "")) for row in everything if "account" in row).most_common(1)[0][0]
    assert mine is not None
    desk = token(service.store, "desk", "--desk", mine)
    of_desk = [row["id"] for row in everything if desks.get(row.get("account", "")) == mine]
    calls = [row["id"] for row in everything if row["type"] == "margin_call_issued"]
    for holder, query, wanted in (
        (desk, "", of_desk),
        (operations, f"?desk={mine}", of_desk),
        (operations, "?type=margin_call_issued", calls),
    ):
        client = Events(lambda: service.port, holder, query=query, after="0")
        eventually(lambda client=client, wanted=wanted: len(client.ids) >= len(wanted))
        client.ended.set()
        assert [row["id"] for row in client.rows] == wanted != []


def test_a_file_that_grows_is_an_intake_of_its_own(tmp_path: Path, lines: list[bytes]) -> None:
    store, feed = tmp_path / "s", tmp_path / "feed.ndjson"
    operations = token(store, "operations")

    def last() -> int:
        return int(service.get("/v1/digest", operations).json["last"])

    with running(store, "--follow", str(feed)) as service:
        feed.write_bytes(b"\n".join(lines[:300]) + b"\n" + lines[300][:30])
        eventually(lambda: last() == 300)
        with feed.open("ab") as stream:
            stream.write(lines[300][30:] + b"\n")
        eventually(lambda: last() == 301)
        assert service.send(operations, lines[301:310]).json["accepted"] == 9
        feed.with_name("fresh").write_bytes(b"\n".join(lines[305:320]) + b"\n")
        feed.with_name("fresh").replace(feed)
        eventually(lambda: last() == 320)
        service.kill()
    with running(store, "--follow", str(feed)) as service:
        assert last() == 320
        assert service.stop() == 143


# ---- standing by -----------------------------------------------------------------------------------------------------


def test_a_second_service_stands_by_answers_and_takes_over(tmp_path: Path, lines: list[bytes]) -> None:
    store = tmp_path / "s"
    operations = token(store, "operations")
    with running(store) as first:
        assert first.send(operations, lines[:2000]).status == 200
        second = Service(store)
        try:
            second.await_ready(writer=False)
            assert second.get("/readyz").json["writer"] is False
            assert (
                second.get("/v1/accounts", operations).json["total"]
                == first.get("/v1/accounts", operations).json["total"]
            )
            refused = second.send(operations, lines[2000:2001])
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert command("ingest", "-", "--store", str(store), data=lines[0])[0] == 6
            started = time.monotonic()
            first.kill()
            second.await_ready(within_s=10)
            assert time.monotonic() - started < 5
            answer = second.send(operations, lines[1990:2100])
            assert (answer.json["accepted"], answer.json["duplicate"]) == (100, 10)
            assert second.stop(signal.SIGINT) == 130
        finally:
            second.kill()
    assert Store.read(store).digests().sequence == 2100
