"""The service under load: inputs in batches and singly, questions beside ticks, the way of an effect to a client.
``python -m tests.benchmarks.service`` prints JSON a line; the peer does nothing but append each body to a file and sync
it, in the same server."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from aiohttp import web

from margin_stream import Store
from tests.benchmarks.__main__ import book_day
from tests.service.running import Service, token

Send = Callable[[bytes], Awaitable[int]]
HEADERS = {"Content-Type": "application/x-ndjson"}


def p99(times: list[float]) -> float:
    """Return the 99th percentile, in milliseconds."""
    return round(sorted(times)[int(len(times) * 0.99)] * 1000, 2)


async def batches(send: Send, bodies: list[bytes], events: int, clients: int = 4) -> dict[str, float]:
    """Send bodies from some clients at once; return events a second and the 99th percentile of an answer."""
    left, times = iter(bodies), list[float]()

    async def one() -> None:
        for body in left:
            started = time.perf_counter()
            assert await send(body) == 200
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return {"events_per_s": round(events / (time.perf_counter() - started)), "p99_ms": p99(times)}


async def paced(send: Send, bodies: list[bytes], rate: float) -> dict[str, float]:
    """Send bodies singly at a rate; return the median and the 99th percentile of an answer."""
    times: list[float] = []

    async def one(body: bytes) -> None:
        started = time.perf_counter()
        assert await send(body) == 200
        times.append(time.perf_counter() - started)

    started, tasks = time.perf_counter(), []
    for number, body in enumerate(bodies):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(body)))
    await asyncio.gather(*tasks)
    return {"median_ms": round(statistics.median(times) * 1000, 2), "p99_ms": p99(times)}


async def questions(
    session: aiohttp.ClientSession, url: str, send: Send, ticks: list[bytes], seconds: float
) -> dict[str, float]:
    """Ask 300 questions a second beside 5,000 ticks a second."""
    paths = [
        "/v1/accounts/A000007",
        "/v1/calls?open=true&limit=20",
        "/v1/accounts/A000931",
        "/v1/summary",
        "/v1/profiles",
    ]
    times: list[float] = []

    async def one(path: str) -> None:
        started = time.perf_counter()
        async with session.get(url + path) as answer:
            await answer.read()
            assert answer.status in (200, 404), answer.status
        times.append(time.perf_counter() - started)

    async def feed() -> None:
        started = time.perf_counter()
        for number, body in enumerate(ticks):
            await asyncio.sleep(max(0.0, started + number / 50 - time.perf_counter()))
            await send(body)

    feeding = asyncio.create_task(feed())
    started, tasks = time.perf_counter(), []
    for number in range(int(300 * seconds)):
        await asyncio.sleep(max(0.0, started + number / 300 - time.perf_counter()))
        tasks.append(asyncio.create_task(one(paths[number % len(paths)])))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - started
    feeding.cancel()
    return {
        "asked_per_s": round(len(times) / took),
        "median_ms": round(statistics.median(times) * 1000, 2),
        "p99_ms": p99(times),
    }


async def peer(folder: Path) -> tuple[web.AppRunner, str]:
    """Serve what appends and syncs, and nothing else."""
    stream = (folder / "peer").open("ab", buffering=0)

    async def take(request: web.Request) -> web.Response:
        stream.write(await request.read())
        await asyncio.to_thread(os.fdatasync, stream.fileno())
        return web.Response()

    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"


async def measure(accounts: int) -> None:
    """Run all; print a line each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = book_day(accounts, 60_000)
        opening, events = lines[:-60_000], lines[-60_000:]
        with Store.open(folder / "s", partitions=2) as store:
            store.ingest(opening)
        operations = token(folder / "s", "operations")
        service = Service(folder / "s")
        service.await_ready(within_s=120)
        headers = HEADERS | {"Authorization": f"Bearer {operations}"}
        url = f"http://127.0.0.1:{service.port}"
        async with aiohttp.ClientSession(headers=headers) as session:

            async def send(body: bytes, to: str = url + "/v1/inputs") -> int:
                async with session.post(to, data=body) as answer:
                    await answer.read()
                    return answer.status

            def say(what: str, found: dict[str, float]) -> None:
                print(json.dumps({"bench": f"service.{what}", "accounts": accounts, **found}), flush=True)

            bodies = [b"\n".join(events[n : n + 100]) for n in range(0, 40_000, 100)]
            say("batches_of_100", await batches(send, bodies, 40_000))
            say("singly_at_500", await paced(send, events[40_000:43_000], 500))
            last = time.time_ns()
            ticks = [
                b"\n".join(
                    json.dumps(
                        {
                            "type": "price_ticked",
                            "source": "bench",
                            "source_seq": last + 100 * n + k,
                            "event_time": "2021-05-19T12:00:00Z",
                            "instrument": "BTCUSDT",
                            "price": f"{40000 + (n + k) % 40}.00",
                        }
                    ).encode()
                    for k in range(100)
                )
                for n in range(1000)
            ]
            say("questions_beside_ticks", await questions(session, url, send, ticks, 6))
            runner, peer_url = await peer(folder)
            say("peer.batches_of_100", await batches(lambda body: send(body, peer_url), bodies, 40_000))
            say("peer.singly_at_500", await paced(lambda body: send(body, peer_url), events[40_000:43_000], 500))
            await runner.cleanup()
        assert service.stop(within_s=120) == 143


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
