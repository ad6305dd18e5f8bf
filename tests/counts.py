"""How many times as much a run tries: 1 in `make test`; `make inputs N=100` for longer ones."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("TIMES", "1"))
