"""The faults of a history: each takes the world and its randomness, and lasts as long as it wants to."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TYPE_CHECKING
from zlib import crc32

from k2.ingest.simulator.market import SimTrade
from tests.simulation.exchange import Wire
from tests.simulation.sockets import Answer

if TYPE_CHECKING:
    from tests.simulation.world import World

_DISTURBED = 20.0  # seconds for which a disturbance has an effect, at least

Fault = Callable[["World", Random], Awaitable[None]]


def _wires(world: "World", rng: Random) -> list[Wire]:
    return [wire for replica in world.hit(rng) for wire in world.exchange.wires_of(replica.process)]


async def cut(world: "World", rng: Random) -> None:
    """Reset the connections; what was not read may be lost."""
    for wire in _wires(world, rng):
        world.exchange.cut(wire, unread=rng.random() < 0.5)


async def close(world: "World", rng: Random) -> None:
    """Close the connections with a close frame."""
    for wire in _wires(world, rng):
        world.exchange.cut(wire, rng.choice((1000, 1001, 1006, 1011, 1012)))


async def refuse_handshakes(world: "World", rng: Random) -> None:
    """Cut, and refuse the next handshakes."""
    world.exchange.refuse_handshakes = rng.randint(1, 4)
    await cut(world, rng)


async def slow_handshakes(world: "World", rng: Random) -> None:
    """Cut, and open the next connections after 5.3 seconds."""
    world.exchange.slow_handshakes = rng.randint(1, 2)
    await cut(world, rng)


async def lose_frames(world: "World", rng: Random) -> None:
    """Lose frames of an open connection. Without consecutive ids only a cut shows it: then all are lost until one."""
    wires = _wires(world, rng)
    if world.numbered:
        for wire in wires:
            wire.drop = rng.randint(1, 30)
    elif len({wire.process for wire in wires}) == len(wires):  # what a rotation loses nothing could show
        for wire in wires:
            wire.loses_all = True
        await asyncio.sleep(rng.uniform(0, 3))
        for wire in wires:
            world.exchange.cut(wire, unread=rng.random() < 0.5)


async def double_frames(world: "World", rng: Random) -> None:
    """Send frames twice."""
    for wire in _wires(world, rng):
        wire.double = rng.randint(1, 30)


async def reorder_frames(world: "World", rng: Random) -> None:
    """Send frames in another order."""
    for wire in _wires(world, rng) if world.numbered else ():
        wire.shuffle = rng.randint(2, 30)


async def silence_symbol(world: "World", rng: Random) -> None:
    """Send nothing of one symbol, until it is subscribed again or for as long as the connection lives."""
    name, for_ever = rng.choice(list(world.exchange.markets)), rng.random() < 0.3
    for wire in _wires(world, rng):
        wire.silenced[name] = for_ever


async def silence_connection(world: "World", rng: Random) -> None:
    """Let the connections hang: nothing arrives at either end, and nobody closes them."""
    for wire in _wires(world, rng):
        wire.hangs = True


async def ignore_requests(world: "World", rng: Random) -> None:
    """Cut, and answer the next subscription requests with nothing."""
    world.exchange.unanswered_requests = rng.randint(1, 3)
    await cut(world, rng)


async def delist(world: "World", rng: Random) -> None:
    """Refuse one symbol for a while."""
    name = rng.choice(list(world.exchange.markets))
    world.exchange.delisted.add(name)
    world.judge.refused(name)
    await cut(world, rng)
    await asyncio.sleep(rng.uniform(10, 60))
    world.exchange.delisted.discard(name)


async def spoil_items(world: "World", rng: Random) -> None:
    """Send items that cannot be read among good ones."""
    world.exchange.bad_items = rng.randint(1, 5)


async def skip_ids(world: "World", rng: Random) -> None:
    """Skip ids for a while."""
    market = rng.choice(list(world.exchange.markets.values()))
    market.phantoms = 0.2
    await asyncio.sleep(5 / market.rate)
    market.phantoms = 0.0


async def delay_trades(world: "World", rng: Random) -> None:
    """Emit trades with a time that lies back, some of them while frames are lost."""
    if any(fault is set_clock for _, fault in world.plan):
        return  # a window that a late trade ends lasts until now, which a wrong clock does not know
    market = rng.choice(list(world.exchange.markets.values()))
    market.late = rng.choice((0.05, 0.5))
    await asyncio.sleep(rng.uniform(0, 5) / market.rate)
    await (lose_frames if rng.random() < 0.5 else cut)(world, rng)
    await asyncio.sleep(5 / market.rate)
    market.late = 0.0


async def announce(world: "World", rng: Random) -> None:
    """Announce a cut, and cut after 40 seconds, if nothing else disturbed the ingest in between."""
    began, wires = world.loop.time(), _wires(world, rng)
    for wire in wires:
        world.exchange.announce(wire, 40.0)
    await asyncio.sleep(40.0)
    calm = world.judge.disturbed_at < began - _DISTURBED
    for wire in wires:
        world.exchange.cut(wire, rng.choice((1001, 1012)), announced=calm)


async def fail_rest(world: "World", rng: Random) -> None:
    """Answer REST requests with errors that pass, with a cut body, or not at all; cut a connection meanwhile."""
    answers = [Answer(body.encode(), status) for status, body in world.exchange.dialect.transient]
    answers += [Answer(b'[{"', 200), Answer(b"", 200, cut=True), Answer(b"", 0)]
    chosen = rng.choice(answers)
    always = rng.random() < 0.7

    def fault(path: str, query: Mapping[str, str], answer: Answer) -> Answer:
        return chosen if always or rng.random() < 0.5 else answer

    world.exchange.rest_fault = fault
    await asyncio.sleep(rng.uniform(0, 3))
    await cut(world, rng)
    await asyncio.sleep(rng.uniform(10, 60))
    world.exchange.rest_fault = None


async def lag_rest(world: "World", rng: Random) -> None:
    """Let the REST API lag behind the stream, with frames lost meanwhile."""
    seconds, micros = rng.uniform(1, 20), world.clock.true_micros

    def hidden(trade: SimTrade) -> bool:
        return trade.time > micros() - seconds * 1e6

    await _hide(world, rng, hidden)


async def thin_rest(world: "World", rng: Random) -> None:
    """Let the REST API leave out trades for a while, as caches do. Without consecutive ids nobody could notice."""
    if not world.numbered:
        return
    salt, share = rng.random(), rng.uniform(0.1, 0.9)

    def hidden(trade: SimTrade) -> bool:
        return crc32(f"{salt}{trade.id}".encode()) < share * 2**32

    await _hide(world, rng, hidden)


async def _hide(world: "World", rng: Random, hidden: Callable[[SimTrade], bool]) -> None:
    world.exchange.hidden = hidden
    await asyncio.sleep(rng.uniform(0, 3))
    await (lose_frames if rng.random() < 0.5 else cut)(world, rng)
    await asyncio.sleep(rng.uniform(10, 60))
    world.exchange.hidden = None


async def lie_rest(world: "World", rng: Random) -> None:
    """Answer REST requests with rows out of order."""

    def fault(path: str, query: Mapping[str, str], answer: Answer) -> Answer:
        return Answer(_shuffled(answer.body, rng), answer.status, answer.headers)

    world.exchange.rest_fault = fault
    await lose_frames(world, rng)
    await asyncio.sleep(rng.uniform(10, 60))
    world.exchange.rest_fault = None


def _shuffled(body: bytes, rng: Random) -> bytes:
    document = json.loads(body)
    if isinstance(document, list):
        rng.shuffle(document)
        return json.dumps(document).encode()
    return body


async def kill(world: "World", rng: Random) -> None:
    """Kill the process, and start another one later."""
    pause, durable = rng.choice((0.5, 3.0, 15.0)), rng.randint(0, 20)
    await asyncio.gather(*(replica.restart(pause, durable) for replica in world.hit(rng)))


async def stop(world: "World", rng: Random) -> None:
    """Stop the process as Kubernetes does, and start another one."""
    pause = rng.uniform(0.5, 5.0)
    await asyncio.gather(*(replica.restart(pause) for replica in world.hit(rng)))


async def switch_protocol(world: "World", rng: Random) -> None:
    """Run the feed in another protocol of the exchange for a while, if it has one."""
    other = world.exchange.dialect.other_protocol
    for replica in world.replicas:
        await replica.restart(1.0, protocol=other)
    await asyncio.sleep(rng.uniform(5, 20))
    for replica in world.replicas:
        await replica.restart(1.0)


async def set_clock(world: "World", rng: Random) -> None:
    """Set the wall clock of the machine."""
    world.clock.skew += rng.choice((-3600, -60, -1.5, 1.5, 60, 3600))


async def add_partitions(world: "World", rng: Random) -> None:
    """Add partitions to the topic of records, and restart the process soon after."""
    topic, *_ = world.processes[0].topics(world.exchange.name)
    world.log.create(topic, len(world.log.topics[topic]) + rng.randint(1, 8))
    await asyncio.sleep(rng.uniform(0, 15))
    await kill(world, rng)


async def hang_producer(world: "World", rng: Random) -> None:
    """Let the producer hang for ever, in the middle of what it has to do."""
    for replica in world.hit(rng):
        replica.process.producers[-1].hang(rng.randint(0, 20))


async def stop_broker(world: "World", rng: Random) -> None:
    """Let no broker answer for a while."""
    world.log.down_until = max(world.log.down_until, world.loop.time() + rng.uniform(1, 45))


async def reject_records(world: "World", rng: Random) -> None:
    """Let the broker reject records for a while."""
    world.log.rejects_until = max(world.log.rejects_until, world.loop.time() + rng.uniform(0.5, 15))


async def change_symbols(world: "World", rng: Random) -> None:
    """Want a symbol no more, and then again, while other faults happen."""
    if len(world.feed.wanted) == 1:
        return
    name = rng.choice(world.feed.wanted)
    world.remove(name)
    await asyncio.sleep(rng.choice((3.0, 12.0, 30.0)))
    world.trace(f"add {name}")
    world.feed.add(name)


async def relist(world: "World", rng: Random) -> None:
    """Delist a symbol: it stops trading, its subscriptions end, and the instrument list lacks it. List it again."""
    name = rng.choice(list(world.exchange.markets))
    world.judge.refused(name)
    world.judge.delisted.add(world.exchange.markets[name].pair.symbol)
    world.exchange.delist(name)
    await asyncio.sleep(rng.uniform(10, 60))
    world.exchange.relist(name)


# And how often each comes, relative to the others.
FAULTS: Mapping[Fault, int] = {
    cut: 4,
    close: 2,
    refuse_handshakes: 2,
    slow_handshakes: 1,
    lose_frames: 4,
    double_frames: 2,
    reorder_frames: 2,
    silence_symbol: 3,
    silence_connection: 1,
    ignore_requests: 2,
    delist: 1,
    spoil_items: 2,
    skip_ids: 1,
    delay_trades: 2,
    announce: 2,
    fail_rest: 4,
    lag_rest: 2,
    thin_rest: 2,
    lie_rest: 1,
    kill: 4,
    stop: 1,
    switch_protocol: 1,
    set_clock: 2,
    add_partitions: 2,
    change_symbols: 4,
    relist: 2,
    hang_producer: 1,
    stop_broker: 2,
    reject_records: 1,
}
# They keep data back, or the ingest from reading it, so that a symbol may seem silent.
SILENCING = frozenset(
    {
        lose_frames,
        delay_trades,
        silence_symbol,
        silence_connection,
        ignore_requests,
        delist,
        relist,
        lag_rest,
        thin_rest,
        lie_rest,  # frames are lost meanwhile
        add_partitions,
    }
    | {hang_producer, stop_broker, reject_records}
)
# While these last, and for a while after, no announced cut is judged: the ingest may be unable to prepare for it.
DISTURBING = frozenset(
    {refuse_handshakes, slow_handshakes, silence_connection, ignore_requests, delist, relist, kill, stop}
    | {add_partitions, switch_protocol, hang_producer, stop_broker, reject_records}
)
