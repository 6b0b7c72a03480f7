"""The small programs that run inside the rig's namespaces, each printing JSON when it ends.

    agents.py echo ADDRESS PORT                         answers UDP datagrams
    agents.py ping ADDRESS PORT SECONDS                 a datagram every 20 ms
    agents.py serve ADDRESS PORT                        HTTP/1.1 keep-alive, 10 kB answers
    agents.py requests ADDRESS PORT SECONDS N GAP_MS    N connections, a request each GAP_MS
    agents.py connects ADDRESS PORT SECONDS PER_SECOND  a connection per request

Run as a script, so that starting one costs the standard library only.
"""

import asyncio
import json
import os
import select
import socket
import sys
import time

PING_GAP_SECONDS = 0.02
PING_PATIENCE_SECONDS = 2.0
BODY = b"x" * 10_000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
REQUEST = b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n"
SHORT_REQUEST = b"GET /short HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n"
SHORT_ANSWER = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
CONNECT_PATIENCE_SECONDS = 3.0


def udp_socket(address: str) -> socket.socket:
    """A datagram socket of the address's family."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_DGRAM)


def before_others() -> None:
    """Runs ahead of ordinary processes: pings time the network, not the queue for a CPU."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def ready() -> None:
    """Tells whoever started us that we answer now."""
    print("ready", flush=True)


def echo(address: str, port: int) -> None:
    """Answers datagrams until killed."""
    with udp_socket(address) as s:
        s.bind((address, port))
        ready()
        while True:
            s.sendto(*s.recvfrom(64))


def ping(address: str, port: int, seconds: float) -> None:
    """Sends on schedule whatever comes back; what took more than two seconds is lost."""
    count = int(seconds / PING_GAP_SECONDS)
    sent_at: list[float] = []
    answered_ms: dict[int, float] = {}
    with udp_socket(address) as s:
        s.connect((address, port))
        s.setblocking(False)
        start = time.monotonic()
        last = start + seconds + PING_PATIENCE_SECONDS
        while (now := time.monotonic()) < last and len(answered_ms) < count:
            due = start + len(sent_at) * PING_GAP_SECONDS if len(sent_at) < count else last
            if now < due:
                if not select.select([s], [], [], due - now)[0]:
                    continue
                number = int(s.recv(64))
                answered_ms[number] = (time.monotonic() - sent_at[number]) * 1e3
                continue
            sent_at.append(time.monotonic())
            try:
                s.send(b"%d" % (len(sent_at) - 1))
            except OSError:
                continue  # refused by a limiter: stays unanswered, which is lost
    patience_ms = PING_PATIENCE_SECONDS * 1e3
    in_time = {number: ms for number, ms in answered_ms.items() if ms <= patience_ms}
    print(json.dumps([(at, in_time.get(number)) for number, at in enumerate(sent_at)]))


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves one connection."""
    try:
        while request := await reader.readuntil(b"\r\n\r\n"):
            short = request.startswith(b"GET /short")
            writer.write(SHORT_ANSWER if short else ANSWER)
            await writer.drain()
            if short:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client hung up
    finally:
        writer.close()


async def serve(address: str, port: int) -> None:
    """Serves until killed."""
    server = await asyncio.start_server(answer, address, port, backlog=4096)
    ready()
    await server.serve_forever()


async def requests(address: str, port: int, seconds: float, connections: int, gap: float) -> None:
    """Each connection asks at most every ``gap`` seconds and waits for the answer first."""
    latencies_ms: list[float] = []
    end = time.perf_counter() + seconds

    async def one(offset: float) -> None:
        await asyncio.sleep(offset)
        reader, writer = await asyncio.open_connection(address, port)
        due = time.perf_counter()
        while due < end:
            start = time.perf_counter()
            writer.write(REQUEST)
            await reader.readexactly(len(ANSWER))
            now = time.perf_counter()
            latencies_ms.append((now - start) * 1e3)
            due = max(due + gap, now)
            await asyncio.sleep(due - now)
        writer.close()

    await asyncio.gather(*(one(gap * i / connections) for i in range(connections)))
    print(json.dumps({"latencies_ms": latencies_ms}))


async def connects(address: str, port: int, seconds: float, per_second: float) -> None:
    """Opens a connection per request, on schedule; slow or refused ones count as failed."""
    latencies_ms: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        start = time.perf_counter()
        try:
            async with asyncio.timeout(CONNECT_PATIENCE_SECONDS):
                reader, writer = await asyncio.open_connection(address, port)
                writer.write(SHORT_REQUEST)
                await reader.readexactly(len(SHORT_ANSWER))
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            failed += 1
        else:
            latencies_ms.append((time.perf_counter() - start) * 1e3)

    start = time.perf_counter()
    count = int(seconds * per_second)
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            wait = start + number / per_second - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            group.create_task(one())
    spent = time.perf_counter() - start
    print(json.dumps({"latencies_ms": latencies_ms, "failed": failed, "seconds": spent}))


def main(what: str, address: str, port: int, *numbers: float) -> None:
    """Runs one agent."""
    match what, numbers:
        case "echo", ():
            before_others()
            echo(address, port)
        case "ping", (seconds,):
            before_others()
            ping(address, port, seconds)
        case "serve", ():
            asyncio.run(serve(address, port))
        case "requests", (seconds, connections, gap_ms):
            asyncio.run(requests(address, port, seconds, int(connections), gap_ms / 1e3))
        case "connects", (seconds, per_second):
            asyncio.run(connects(address, port, seconds, per_second))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *map(float, sys.argv[4:]))
