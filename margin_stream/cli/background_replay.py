"""A second process that folds the journal again while ``ingest`` writes it: what ``--verify`` asks for."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from margin_stream.errors import Error
from margin_stream.replay.background import replay_beside
from margin_stream.replay.comparison import Replayed
from margin_stream.revaluation import RevaluationName


class BesideFailed(Error, code="verification_ended"):
    """The second process ended without an answer."""


class Beside:
    """A replay in a process of its own. It ends by itself where this process does."""

    def __init__(self, path: Path, revaluation: RevaluationName) -> None:
        """Start it.

        Args:
            path: of a store that exists.
            engine: how its ticks are revalued.
        """
        self._path = path
        # Not a fork: RocksDB's threads would not come along.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, path, revaluation), name="verify")
        self._process.start()
        theirs.close()

    def finish(self) -> Replayed:
        """Report that the store is closed, and return what the replay found.

        Raises:
            BesideFailed: it ended with an error; the text states which.
        """
        try:
            self._pipe.send_bytes(b"closed")
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError):
            self._process.join()
            raise BesideFailed(
                f"{self._path}: the process that verifies ended with code {self._process.exitcode} and no answer",
                store=self._path,
            ) from None
        self._process.join()
        if answer[:1] == b"!":
            raise BesideFailed(f"{self._path}: {answer[1:].decode()}", store=self._path)
        return msgspec.json.decode(answer, type=Replayed)

    def abandon(self) -> None:
        """End it without an answer."""
        self._pipe.close()
        self._process.join()


def _run(pipe: Connection, path: Path, revaluation: RevaluationName) -> None:
    # A signal to the terminal's processes is the writer's to answer; this one goes on until the store is closed.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)

    def more() -> bool:
        if not pipe.poll():
            return True
        try:
            pipe.recv_bytes()
        except EOFError:
            # No reader waits for an answer any more.
            raise SystemExit(0) from None
        return False

    try:
        answer = msgspec.json.encode(replay_beside(path, more, revaluation=revaluation))
    except Exception as error:
        answer = f"!{type(error).__name__}: {error}".encode()
    pipe.send_bytes(answer)
