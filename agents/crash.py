"""Crash-only: what cannot go on ends the process at once; the supervisor starts it again, and the tables and topics
have everything.

``MARGIN_STREAM_CRASH=point:chance,...`` lets a worker crash at named points, for trials: ``sent`` (between two
messages), ``snapshot`` (rows taken, nothing written), ``drained`` (everything sent, nothing written), ``written`` (rows
written, delta not sent), ``delta`` (a delta half sent).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from typing import NoReturn

_CHANCES = {
    point: float(chance)
    for point, _, chance in (
        part.partition(":") for part in os.environ.get("MARGIN_STREAM_CRASH", "").split(",") if part
    )
}


def die(why: str) -> NoReturn:
    """End the process."""
    logging.getLogger("margin_stream.agents").critical("the worker ends, to be started again: %s", why)
    sys.stderr.flush()
    os._exit(70)


def due(point: str) -> bool:
    """Say whether a trial wants a crash here."""
    return bool(_CHANCES) and random.random() < _CHANCES.get(point, 0.0)


def crash(point: str) -> None:
    """Crash as a kill -9 would, where a trial wants it."""
    if due(point):
        os.kill(os.getpid(), signal.SIGKILL)
