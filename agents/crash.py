"""Crash-only: what cannot go on ends the process at once; the supervisor starts it again, and the tables and topics have everything."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn


def die(why: str) -> NoReturn:
    """End the process."""
    logging.getLogger("margin_stream.agents").critical("the worker ends, to be started again: %s", why)
    sys.stderr.flush()
    os._exit(70)
