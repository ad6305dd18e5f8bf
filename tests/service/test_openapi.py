"""A fuzzer of the OpenAPI document finds no error of the server, and nothing that the document does not state."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from margin_stream.service.openapi import document
from margin_stream.service.routes import ROUTES
from tests.integration.test_errors import command
from tests.service.running import running, token

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow(reason="runs a service and a fuzzer")
def test_a_fuzzer_finds_no_error_of_the_server(tmp_path: Path) -> None:
    day = command("simulate", "--scenario", "crash", "--accounts", "10", "--seed", "1")[2].splitlines()[:4000]
    with running(tmp_path / "s", "--partitions", "2") as service:
        operations = token(tmp_path / "s", "operations")
        assert service.send(operations, day).status == 200
        answer = service.get("/v1/openapi.json", operations)
        (tmp_path / "api.json").write_bytes(answer.body)
        words = [str(Path(sys.executable).with_name("schemathesis")), "run", str(tmp_path / "api.json")]
        words += ["--url", f"http://127.0.0.1:{service.port}", "-H", f"Authorization: Bearer {operations}"]
        words += ["--checks", CHECKS, "--max-examples", "25", "--phases", "coverage,fuzzing", "--seed", "5"]
        words += ["--exclude-path", "/v1/stream", "--suppress-health-check", "all"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        assert "13 passed" in done.stdout, done.stdout[-3000:]
        # The service still answers, and what was sent to it is whole.
        assert service.get("/v1/summary", operations).status == 200
        assert service.stop() == 143
    assert command("verify", "--store", str(tmp_path / "s"))[0] == 0


def test_every_reference_of_the_document_leads_somewhere() -> None:
    found = document(ROUTES, "0")
    text = json.dumps(found)
    names = set(found["components"]["schemas"])
    for part in text.split('"$ref": "')[1:]:
        reference = part.partition('"')[0]
        assert reference.removeprefix("#/components/schemas/") in names, reference
    for route in ROUTES:
        operation = found["paths"][route.path][route.method.lower()]
        assert {row["name"] for row in operation["parameters"]} == {one.name for one in route.parameters}
        assert {"401", "403"} <= operation["responses"].keys()
