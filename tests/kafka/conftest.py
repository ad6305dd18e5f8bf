"""A real broker for the tests that need one; each test process has its own. It must start: nothing skips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from margin_stream.simulation.broker import Broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder: Path = tmp_path_factory.mktemp("broker")
    with Broker(folder) as running:
        yield running
