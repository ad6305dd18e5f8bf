"""The commands on a store of Kafka, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from margin_stream.host.embedded import Host
from margin_stream.kafka.address import AddressError, parse_address
from margin_stream.kafka.client import Client, KafkaError, SecurityError, security
from margin_stream.simulation.broker import Broker, Secure, free_port
from tests.days import opened_day, random_day, restart
from tests.kafka.running import complaint, run, summary, workers

LINES = random_day(11, accounts=12, steps=700, noisy=True)


@pytest.fixture
def day(tmp_path: Path) -> str:
    path = tmp_path / "day.ndjson"
    path.write_bytes(b"\n".join(LINES) + b"\n")
    return str(path)


def embedded(folder: Path, lines: list[bytes] = LINES) -> tuple[str, tuple[int, str, str]]:
    """Ingest into a folder; return it and its digests."""
    with Host(folder) as host:
        host.ingest(lines)
        digests = host.checkpoint()
    return str(folder), tuple(digests)  # type: ignore[return-value]


def named(broker: Broker, name: str) -> str:
    return f"kafka://{broker.server}/{name}"


@pytest.mark.parametrize(
    "text",
    [
        "kafka://",
        "kafka://h/x",
        "kafka://h:0/x",
        "kafka://h:1/",
        "kafka://h:1/a b",
        "kafka://u:p@h:1/x",
        "kafka://h:99999/x",
        "kafka://h:1",
        "http://h:1/x",
    ],
)
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert ":p@" not in str(caught.value)


def test_an_address() -> None:
    found = parse_address("kafka://a:1,b:2/demo.eu-1")
    assert found.servers == ("a:1", "b:2")
    assert found.topics.inputs == "demo.eu-1.inputs"


def test_security_comes_from_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    given = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "me", "SASL_PASSWORD_FILE": str(secret)}
    found = security({f"MARGIN_STREAM_KAFKA_{name}": value for name, value in given.items()})
    assert (found["sasl_plain_password"], found["sasl_mechanism"]) == ("s3cret", "SCRAM-SHA-512")
    assert found["ssl_context"].check_hostname
    for wrong in (
        {"SECURITY_PROTOCOL": "TLS"},
        {"SECURITY_PROTOCOL": "SASL_SSL"},
        {**given, "SASL_PASSWORD_FILE": "/nowhere"},
    ):
        with pytest.raises(SecurityError):
            security({f"MARGIN_STREAM_KAFKA_{name}": value for name, value in wrong.items()})


@pytest.mark.slow
def test_errors_say_what_to_do(broker: Broker, day: str, tmp_path: Path) -> None:
    assert "write kafka://HOST:PORT" in complaint("digest", "--store", "kafka://nowhere", code=2)
    assert "a folder, or kafka://" in complaint("digest", "--store", "redis://h:1/x", code=2)
    assert "for stores on Kafka" in complaint("kafka", "status", "--store", str(tmp_path), code=2)
    assert "does not answer" in complaint("digest", "--store", f"kafka://127.0.0.1:{free_port()}/x", code=5)
    assert "kafka init" in complaint("ingest", day, "--store", named(broker, "nobody"), code=1)
    run("kafka", "init", "--store", named(broker, "errors"), "--partitions", "2")
    run("kafka", "init", "--store", named(broker, "errors"), "--partitions", "2")
    assert "repartition" in complaint("kafka", "init", "--store", named(broker, "errors"), "--partitions", "3", code=1)
    assert "from 1 to" in complaint("kafka", "init", "--store", named(broker, "errors2"), "--partitions", "0", code=2)
    assert "not open" in complaint("state", "--account", "nobody", "--store", named(broker, "errors"), code=1)


@pytest.mark.slow
def test_without_workers_commands_fold_themselves(broker: Broker, day: str, tmp_path: Path) -> None:
    folder, expected = embedded(tmp_path / "embedded")
    store = named(broker, "alone")
    run("kafka", "init", "--store", store, "--partitions", "3")
    first = run("ingest", day, "--store", store)[0]
    assert summary(first) == expected
    # A worker does not report how many duplicates had been refused.
    assert first | {"duplicate_of_refused": 0} == run("ingest", day, "--store", str(tmp_path / "again"))[0]
    second = run("ingest", day, "--store", store)[0]
    assert summary(second) == expected
    assert (second["accepted"], second["effects"]) == (0, 0)
    assert second["duplicate"] == len(LINES)
    for words in (
        ["calls"],
        ["state", "--account", "A0"],
        ["digest"],
        ["digest", "--until", "#300"],
        ["calls", "--at", "#900"],
    ):
        assert run(*words, "--store", store) == run(*words, "--store", folder), words
    assert run("events", "--effects", "--store", store) == run("events", "--effects", "--store", folder)
    ours, theirs = (run("quarantine", "list", "--store", place) for place in (store, folder))
    assert [(row["id"], row["reason"]) for row in ours] == [(row["id"], row["reason"]) for row in theirs]
    assert run("events", "--type", "position_changed", "--store", store) == run(
        "events", "--type", "position_changed", "--store", folder
    )


@pytest.mark.slow
def test_with_workers_the_same_and_again_with_other_partitions(broker: Broker, day: str, tmp_path: Path) -> None:
    folder, expected = embedded(tmp_path / "embedded")
    store = named(broker, "worked")
    run("kafka", "init", "--store", store, "--partitions", "4")
    with workers(store, tmp_path / "data", 2):
        found = run("ingest", day, "--store", store)[0]
        assert summary(found) == expected
        assert found | {"duplicate_of_refused": 0} == run("ingest", day, "--store", str(tmp_path / "again"))[0]
        assert run("ingest", day, "--store", store)[0]["duplicate"] == len(LINES)
        for words in (
            ["calls"],
            ["calls", "--open"],
            ["state", "--account", "A0"],
            ["call", run("calls", "--store", folder)[0]["call"]],
        ):
            assert run(*words, "--store", store) == run(*words, "--store", folder), words
        replayed = run("replay", "--store", store)[0]
        assert replayed["equal"]
        assert replayed["recorded_state_digest"] == expected[1]
        assert replayed["recorded_effects_digest"] == expected[2]
        assert run("verify", "--store", store)[0]["ok"]
        status = run("kafka", "status", "--store", store)[0]
        assert status["workers"] == 2
        assert {row["kind"] for row in status["shards"]} == {"intake", "accounts", "effects"}
        assert all(row["ready"] and row["lag"] == 0 for row in status["shards"])
        assert "workers run" in complaint("kafka", "repartition", "--partitions", "3", "--store", store, code=6)
    with Client(parse_address(store).servers) as client:
        for _ in range(100):
            if not client.members(parse_address(store).group):
                break
            time.sleep(0.1)
        alerts = [json.loads(record.value) for record in client.read("worked.alerts")]
        refused = [json.loads(record.value) for record in client.read("worked.quarantine")]
    effects = run("events", "--effects", "--store", folder)
    assert {row["id"] for row in alerts} >= {row["id"] for row in effects if row["type"] == "margin_call_issued"}
    assert len({row["id"] for row in refused}) == len(run("quarantine", "list", "--store", folder))
    assert run("kafka", "repartition", "--partitions", "3", "--store", store)[0]["partitions"] == 3
    with workers(store, tmp_path / "data", 1):
        assert summary(run("ingest", day, "--store", store)[0]) == expected
        assert run("replay", "--store", store)[0]["equal"]


@pytest.mark.slow
def test_journals_move_between_folder_and_topic(broker: Broker, tmp_path: Path) -> None:
    folder, expected = embedded(tmp_path / "embedded")
    store = named(broker, "moved")
    run("kafka", "init", "--store", store, "--partitions", "2")
    run("import", "segments", folder, "--into", store)
    assert summary(run("digest", "--store", store)[0]) == expected
    back = str(tmp_path / "back")
    assert summary(run("export", back, "--store", store)[0]) == expected
    assert run("replay", "--store", back)[0]["equal"]
    assert "already" in complaint("export", store, "--store", folder, code=1)
    assert "not empty" in complaint("export", back, "--store", store, code=1)


@pytest.mark.slow
def test_verify_names_what_is_wrong(broker: Broker, day: str, tmp_path: Path) -> None:
    store = named(broker, "damaged")
    run("kafka", "init", "--store", store, "--partitions", "1")
    with workers(store, tmp_path / "data", 1):
        run("ingest", day, "--store", store)
    from margin_stream.kafka import messages

    with Client(parse_address(store).servers) as client:
        generation = json.loads(client.last("damaged.manifest").value)["generation"]  # type: ignore[union-attr]
        record = messages.decode_effects(
            next(
                r.value for r in client.read("damaged.effects", 1) if len(messages.decode_effects(r.value).effects) > 1
            )
        )
        other = [(position, data.replace(b"A", b"B", 1)) for position, data in record.effects]
        assert record.generation == generation
        forged = msgspec.structs.replace(record, effects=other)
        unreadable = msgspec.structs.replace(record, effects=[(record.last, b"\x80")])
        client.send("damaged.effects", [messages.encode(forged), messages.encode(unreadable)], partition=1)
    said = complaint("verify", "--store", store, code=4)
    assert "damaged.effects-1: offset" in said
    assert "an effect cannot be decoded" in said


def _ready(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the worker does not become ready")


@pytest.mark.slow
def test_a_worker_comes_back_when_killed_and_when_the_broker_does(day: str, tmp_path: Path) -> None:
    """On a broker of its own, which is killed. One that is told to stop leaves with 143; a second one on its folder is
    turned away."""
    _, expected = embedded(tmp_path / "embedded")
    broker = Broker(tmp_path / "broker")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with broker:
        store = named(broker, "back")
        run("kafka", "init", "--store", store, "--partitions", "2")
        with workers(store, tmp_path / "data", 1, "--http", f"127.0.0.1:{port}") as running:
            _ready(url)
            assert "another process" in complaint(
                "worker", "--store", store, "--data", str(tmp_path / "data" / "w0"), code=6
            )
            pid = running[0].pid
            child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            os.kill(child, signal.SIGKILL)
            broker.kill()
            time.sleep(1)
            broker.start()
            assert summary(run("ingest", day, "--store", store)[0]) == expected
            assert _ready(url)["ready"]
            running[0].terminate()
            assert running[0].wait(30) == 143


@pytest.mark.slow
def test_an_ingest_that_is_killed_is_run_again(broker: Broker, tmp_path: Path) -> None:
    import sys

    lines = random_day(12, accounts=12, steps=4000)
    path = tmp_path / "long.ndjson"
    path.write_bytes(b"\n".join(lines))
    _, expected = embedded(tmp_path / "embedded", lines)
    store = named(broker, "rerun")
    run("kafka", "init", "--store", store, "--partitions", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "margin_stream.cli", "ingest", str(path), "--store", store, "--no-wait"],
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.6)
    process.kill()
    process.wait()
    assert summary(run("ingest", str(path), "--store", store)[0]) == expected


@pytest.mark.slow
def test_a_worker_comes_back_under_another_url(broker: Broker, day: str, tmp_path: Path) -> None:
    """Within its session, so the broker hands it the share that it had then, with the URL of then."""
    _, expected = embedded(tmp_path / "embedded")
    store = named(broker, "moving")
    run("kafka", "init", "--store", store, "--partitions", "2")
    for _ in range(3):
        port = free_port()
        with workers(store, tmp_path / "data", 1, "--name", "mover", "--http", f"127.0.0.1:{port}"):
            assert _ready(f"http://127.0.0.1:{port}")["ready"]
            assert summary(run("ingest", day, "--store", store)[0]) == expected


def grant(broker: Broker, rule: str) -> None:
    """Give a role an access rule, by Kafka's own tool."""
    command = [
        "org.apache.kafka.tools.AclCommand",
        "--bootstrap-server",
        f"127.0.0.1:{broker.internal_port}",
        "--force",
    ]
    subprocess.run(broker.java(*command, *rule.split()), check=True, capture_output=True, timeout=60)


@pytest.mark.slow
def test_with_tls_and_passwords(day: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything over SASL_SSL, by the environment alone; a wrong password, or an authority that is not trusted, gets
    nowhere. With the access rules that ``kafka init`` prints and a key, each role can do what it needs, and no more."""
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    for name in ("server", "other"):
        key, certificate = tmp_path / f"{name}.key", tmp_path / f"{name}.crt"
        subprocess.run(
            ["openssl", *words, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
        )
    keystore = tmp_path / "server.pem"
    keystore.write_bytes((tmp_path / "server.key").read_bytes() + (tmp_path / "server.crt").read_bytes())
    secret = tmp_path / "secret"
    secret.write_text("s3cret-word\n")
    given = {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_USERNAME": "desk",
        "SASL_PASSWORD_FILE": secret,
        "SSL_CAFILE": tmp_path / "server.crt",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"MARGIN_STREAM_KAFKA_{name}", str(value))
    _, expected = embedded(tmp_path / "embedded")
    key = tmp_path / "key"
    key.write_text("k" * 40)
    monkeypatch.setenv("MARGIN_STREAM_KAFKA_DERIVED_KEY_FILE", str(key))
    roles = ("producers", "workers", "readers", "operators")
    with Broker(tmp_path / "broker", secure=Secure(keystore, "desk", "s3cret-word", roles)) as broker:
        store = named(broker, "secure")
        rules = run("kafka", "init", "--store", store, "--partitions", "2")[0]["acls"]
        for rule in rules:
            grant(broker, rule)

        def play(role: str) -> None:
            monkeypatch.setenv("MARGIN_STREAM_KAFKA_SASL_USERNAME", role)

        play("workers")
        with workers(store, tmp_path / "data", 1):
            play("producers")
            with Client((broker.server,)) as client:
                client.send("secure.inputs", Path(day).read_bytes().splitlines())
                with pytest.raises(KafkaError):
                    client.send("secure.accounts", [b"forged"])
            play("readers")
            deadline = time.monotonic() + 60
            while (found := run("kafka", "status", "--store", store)[0])["digests_at"] != expected[0]:
                assert time.monotonic() < deadline, found
            assert (found["workers"], found["state_digest"]) == (1, expected[1])
            with Client((broker.server,)) as client, pytest.raises(KafkaError):
                client.send("secure.inputs", [b"{}"])
            assert run("verify", "--store", store)[0]["ok"]
            assert run("replay", "--store", store)[0]["equal"]
            # A forger who may write, and has not the key.
            play("desk")
            with Client((broker.server,)) as client:
                record = next(client.read("secure.accounts", 0))
                assert record.value[:1] == b"\xc1"
                client.send("secure.accounts", [record.value[33:], record.value])
            while not sum(row["foreign"] for row in run("kafka", "status", "--store", store)[0]["shards"]):
                assert time.monotonic() < deadline
            assert "not sealed" in complaint("verify", "--store", store, code=4)
            alerts = [json.loads(row.value)["type"] for row in Client((broker.server,)).read("secure.alerts")]
            assert alerts.count("derived_message_refused") == 1
        play("operators")
        with Client((broker.server,)) as client:
            while client.members("secure.workers"):
                assert time.monotonic() < deadline
                time.sleep(0.2)
        run("kafka", "repartition", "--store", store, "--partitions", "1")
        play("desk")
        secret.write_text("wrong")
        said = complaint("digest", "--store", store, code=5)
        assert "wrong" not in said.replace("went wrong", "")
        secret.write_text("s3cret-word")
        monkeypatch.setenv("MARGIN_STREAM_KAFKA_SSL_CAFILE", str(tmp_path / "other.crt"))
        complaint("digest", "--store", store, code=5)
        monkeypatch.setenv("MARGIN_STREAM_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
        complaint("digest", "--store", store, code=5)


@pytest.mark.slow
def test_what_a_restarted_feed_sent_is_sent_again(broker: Broker, tmp_path: Path) -> None:
    day = opened_day()
    restart(day, 3)
    day.book("feed_restarted", feed="feed", actor="ops")
    path = tmp_path / "day.ndjson"
    path.write_bytes(b"\n".join(day.lines))
    store, folder = named(broker, "restarted"), str(tmp_path / "s")
    run("kafka", "init", "--store", store, "--partitions", "2")
    for place in (store, folder):
        run("ingest", str(path), "--store", place)
    again = [run("ingest", str(path), "--store", place)[0] for place in (store, folder)]
    assert again[0]["duplicate_of_refused"] == again[1]["duplicate_of_refused"] > 0
    expected = run("quarantine", "resubmit", "--source", "feed", "--store", folder)[0]
    assert expected["sent"] == expected["accepted"] == 6
    assert run("quarantine", "resubmit", "--source", "feed", "--store", store)[0] == expected
