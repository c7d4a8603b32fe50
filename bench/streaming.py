"""How late the answer's text is because it goes through the pipeline, and how many deltas one worker carries.

Drives the brokers of a running `headrace dev`, with a worker and a model of its own: that model writes into each piece
of text when it wrote it to the socket, so whoever reads the text knows how old it is. The ages of the same pieces read
by Anthropic's SDK in this process are the floor, and a record's way to the broker and back, both of the same run.

1. The first delta: N answers, C at a time; the age of its text when it is read from `agent-deltas`.
2. Deltas per second: S answers at once, each with a piece of 256 characters (which is not put together with others)
   every 20 ms, for more and more S; how many deltas come in a second, how old they are, and the worker's CPU for each.
"""

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence

import aiokafka
import msgspec
import orjson
import uvloop
from aiohttp import web
from floors import Calls, RoundTrips
from own_worker import own_worker
from stack import Meter, add_stack_arguments, readers_stopped
from turns import Target, Turns

from headrace.stack.endpoints import read_endpoints
from headrace.stack.ports import LOOPBACK, free_port
from schemas.events import TextDelta

ORDER = re.compile(rb"pieces=(\d+) every=([\d.]+) size=(\d+)")
STAMP = re.compile(r"@(\d+\.\d+)")
PIECE_CHARACTERS = 256
PIECE_EVERY_S = 0.02
FIRST_PIECES = 5
FIRST_EVERY_S = 0.1
POLL_MS = 1_000


def event(name: str, body: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **body}))


def piece(size: int) -> bytes:
    """A piece of text with the time in it: of a clock that all processes of a machine share."""
    text = f"@{time.monotonic():.6f} ".ljust(size, ".")
    return event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})


async def answer(request: web.Request) -> web.StreamResponse:
    """Stream as many pieces as the last message asks for, at its pace."""
    orders = ORDER.findall(await request.read())
    count, every_s, size = int(orders[-1][0]), float(orders[-1][1]), int(orders[-1][2])
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "request-id": "req_bench"})
    await response.prepare(request)
    usage = {"input_tokens": 1, "output_tokens": 1}
    message: dict[str, object] = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    await response.write(
        event("message_start", {"message": message})
        + event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    )
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(count):
        await asyncio.sleep(begin + number * every_s - loop.time())
        await response.write(piece(size))
    stop = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}
    await response.write_eof(
        event("content_block_stop", {"index": 0}) + event("message_delta", stop) + event("message_stop", {})
    )
    return response


def serve(port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    web.run_app(app, host=LOOPBACK, port=port, print=None, access_log=None, loop=uvloop.new_event_loop())


def asked(pieces: int, every_s: float, size: int) -> str:
    return f"pieces={pieces} every={every_s} size={size}"


class Ages:
    """How old each text was when it was heard, in seconds; `firsts`: of the first of each answer."""

    def __init__(self) -> None:
        self.firsts: list[float] = []
        self.all: list[float] = []

    def hear(self, text: str, *, is_first: bool) -> None:
        now = time.monotonic()
        stamps = [float(stamp) for stamp in STAMP.findall(text)]
        self.all.extend(now - stamp for stamp in stamps)
        if is_first and stamps:
            self.firsts.append(now - stamps[0])


class Deltas:
    """Reads `agent-deltas` of the target from now on into `ages`."""

    def __init__(self, target: Target) -> None:
        self.ages = Ages()
        self._consumer = aiokafka.AIOKafkaConsumer(
            f"{target.topic_prefix}agent-deltas",
            bootstrap_servers=target.brokers,
            fetch_max_wait_ms=100,
            auto_offset_reset="latest",
        )

    async def start(self) -> None:
        await self._consumer.start()
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def read(self) -> None:
        decode = msgspec.json.Decoder(TextDelta).decode
        while True:
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    delta = decode(record.value)
                    self.ages.hear(delta.text, is_first=delta.seq == 0)


def shown(name: str, ages: Sequence[float]) -> str:
    ordered = sorted(ages)
    return (
        f"{name:24} n={len(ordered):<6} p50={statistics.median(ordered) * 1e3:7.2f} ms  "
        f"p99={ordered[int(len(ordered) * 0.99)] * 1e3:7.2f} ms"
    )


async def read_with_sdk(calls: Calls, text: str, count: int, concurrency: int) -> Ages:
    ages = Ages()
    numbers = iter(range(count))

    async def line() -> None:
        for _ in numbers:
            is_first = True

            def hear(text: str) -> None:
                nonlocal is_first
                ages.hear(text, is_first=is_first)
                is_first = False

            await calls.call(text, hear)

    await asyncio.gather(*(line() for _ in range(concurrency)))
    return ages


async def talk(turns: Turns, text: str, count: int, concurrency: int) -> None:
    run = uuid.uuid4().hex[:8]
    numbers = iter(range(count))

    async def line() -> None:
        for number in numbers:
            await turns.turn(f"streaming-{run}-{number}", text)

    await asyncio.gather(*(line() for _ in range(concurrency)))


async def first_deltas(target: Target, calls: Calls, deltas: Deltas, arguments: argparse.Namespace) -> None:
    text = asked(FIRST_PIECES, FIRST_EVERY_S, 24)
    async with Turns(target) as turns, RoundTrips(target.brokers) as trips:
        await talk(turns, text, 4, 4)
        for concurrency in arguments.concurrency:
            count = max(arguments.answers, concurrency)
            trip = await trips.measure(count, 1)
            floor = await read_with_sdk(calls, text, count, concurrency)
            deltas.ages = ours = Ages()
            await talk(turns, text, count, concurrency)
            added = statistics.median(ours.firsts) - statistics.median(floor.firsts)
            print(shown(f"C={concurrency:<4} round trip, C=1", trip.latencies))
            print(shown(f"C={concurrency:<4} SDK: first text", floor.firsts))
            print(
                f"{shown(f'C={concurrency:<4} first delta', ours.firsts)}  added: {added * 1e3:.2f} ms "
                f"= {added * 1e3 / trip.p50_ms:.1f} round trips",
                flush=True,
            )


async def many_deltas(target: Target, calls: Calls, deltas: Deltas, arguments: argparse.Namespace) -> None:
    pieces = int(arguments.seconds / PIECE_EVERY_S)
    text = asked(pieces, PIECE_EVERY_S, PIECE_CHARACTERS)
    async with Turns(target) as turns:
        for streams in arguments.streams:
            started = time.perf_counter()
            floor = await read_with_sdk(calls, text, streams, streams)
            sdk_rate = len(floor.all) / (time.perf_counter() - started)
            deltas.ages = ours = Ages()
            meter = Meter(target.pids)
            await talk(turns, text, streams, streams)
            figures = meter.figures(ours.all)
            offered = streams / PIECE_EVERY_S
            print(f"{shown(f'S={streams:<4} SDK', floor.all)}  {sdk_rate:6.0f} of {offered:.0f} pieces/s")
            print(
                f"{shown(f'S={streams:<4} deltas', ours.all)}  {figures.rate:6.0f} of {offered:.0f} deltas/s "
                f"= x{figures.rate / sdk_rate:.2f}  worker {figures.cpu_ms('worker'):.3f} ms/delta  "
                f"lost {streams * pieces - len(ours.all)}",
                flush=True,
            )


async def run(arguments: argparse.Namespace) -> None:
    endpoints = read_endpoints(arguments.data_dir)
    port = free_port()
    model = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])  # noqa: ASYNC220  # In a millisecond.
    url = f"http://{LOOPBACK}:{port}"
    try:
        with readers_stopped(endpoints, wanted=arguments.alone):
            async with own_worker(endpoints, url) as target, Calls(url) as calls:
                deltas = Deltas(target)
                await deltas.start()
                reading = asyncio.create_task(deltas.read())
                try:
                    for _ in range(arguments.rounds):
                        await first_deltas(target, calls, deltas, arguments)
                        await many_deltas(target, calls, deltas, arguments)
                finally:
                    reading.cancel()
                    await deltas.stop()
    finally:
        model.terminate()
        await asyncio.to_thread(model.wait)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_arguments(parser)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50], help="answers at a time, for 1.")
    parser.add_argument("--answers", type=int, default=30, help="for 1., at least as many as at a time")
    parser.add_argument("--streams", type=int, nargs="*", default=[10, 100, 200, 400], help="answers at once, for 2.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each answer, for 2.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
    else:
        uvloop.run(run(arguments))


if __name__ == "__main__":
    main()
