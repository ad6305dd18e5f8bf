"""Which tests can run: those that write the core otherwise need it as plain Python."""

from __future__ import annotations

from collections import Counter

import pytest

from margin_stream.native import SWITCH, form


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the compiled core cannot show; ``make test`` runs those tests apart, on the plain one.

    Of a test that is slow after its first few cases, the others are slow.
    """
    cases: Counter[str] = Counter()
    for item in items:
        after = item.get_closest_marker("slow_after")
        name = item.nodeid.partition("[")[0]
        cases[name] += 1
        if after is not None and cases[name] > after.args[0]:
            item.add_marker(pytest.mark.slow(**after.kwargs))
    if not form().compiled:
        return
    plain = [item for item in items if item.get_closest_marker("plain_core")]
    if plain:
        config.hook.pytest_deselected(items=plain)
        items[:] = [item for item in items if not item.get_closest_marker("plain_core")]


def pytest_report_header() -> str:
    """Say which form of the core is tested."""
    compiled, reason = form()
    if compiled:
        return f"core: compiled; tests that need it plain are left out ({SWITCH}=0 runs them)"
    return f"core: plain Python ({reason})"
