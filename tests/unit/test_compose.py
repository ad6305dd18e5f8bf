"""docker-compose.yml against the schema of the compose specification (tests/data/compose-spec.json, Apache-2.0, from
compose-go 2.4.7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "tests/data/compose-spec.json").read_text())


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_the_file_follows_the_schema() -> None:
    jsonschema.validate(compose(), SCHEMA)


def test_an_unknown_key_is_found() -> None:
    broken = compose()
    broken["services"]["kafka"]["helthcheck"] = broken["services"]["kafka"].pop("healthcheck")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_workers_run_without_root_with_volumes_and_healthchecks() -> None:
    services = compose()["services"]
    workers = [service for name, service in services.items() if name.startswith("worker")]
    assert len(workers) == 2
    assert len({worker["volumes"][0] for worker in workers}) == 2
    for worker in workers:
        assert worker["user"].split(":")[0] != "0"
        assert worker["healthcheck"]
    assert services["kafka"]["healthcheck"]
    assert "USER 10001" in (ROOT / "Dockerfile").read_text()
