"""Diagnoses of a feed's connections to its exchange, of all channels together.

No clock here. `diagnostics` has the other parts.
"""

from collections.abc import Sequence
from dataclasses import replace

from k2.operator.desired.naming import INGEST, connections
from k2.operator.observed.diagnostics import (
    Diagnosis,
    kafka_secret,
    ready,
    rejected_ingest,
    shortened,
    summarize,
    suspended,
    unhealthy,
    unknown,
    unready,
)
from k2.operator.observed.objects import Observed, Shard
from k2.schemas.channels import TRADES
from k2.schemas.feed.model import ExchangeFeed


def diagnose(feed: ExchangeFeed, observed: Observed) -> Diagnosis:
    """Diagnose the feed's connections. The message of a feed with several channels names the channel."""
    if refusal := rejected_ingest(observed.rejections):
        return refusal
    if feed.spec.suspend:
        return suspended(sum(deployment.ready for deployment in observed.deployments), "closing connections")
    parts = {channel.name: _channel(feed, observed.of_channel(channel.name)) for channel in feed.channels}
    if len(parts) == 1:
        return parts[feed.channels[0].name]
    if any(part.status != "True" for part in parts.values()):
        return summarize(parts)
    reasons = [part.reason for part in parts.values() if part.reason != "Ready"]
    return ready("; ".join(f"{name}: {part.message}" for name, part in parts.items()), next(iter(reasons), "Ready"))


def _channel(feed: ExchangeFeed, observed: Observed) -> Diagnosis:
    if not observed.deployments:
        return unknown("Creating", "creating Deployments")
    if failing := next((deployment for deployment in observed.deployments if deployment.trouble), None):
        reason = "QuotaExceeded" if "exceeded quota" in failing.trouble else "PodsNotRunning"
        return unready(reason, f"{failing.name}: {failing.trouble}")
    if any(shard.matching == 0 for shard in observed.shards):
        return unready(
            "SelectorMatchesNothing",
            "0 of the instruments that trade on the exchange match spec.symbolSelector; correct quotes or exclude",
        )
    return unhealthy(observed, {INGEST}) or _connections(_without_arriving(feed, observed))


def _without_arriving(feed: ExchangeFeed, observed: Observed) -> Observed:
    """Return the observation without shards that are being added: until they are up, the others carry everything."""
    if len(observed.counts) < 2:
        return observed
    names = {connection.name(feed) for connection in connections(feed, observed.counts[:1])}
    return replace(
        observed,
        deployments=tuple(each for each in observed.deployments if each.name in names),
        shards=tuple(each for each in observed.shards if any(each.pod.startswith(f"{name}-") for name in names)),
    )


def _connections(observed: Observed) -> Diagnosis:
    shards = observed.shards
    desired = sum(deployment.desired for deployment in observed.deployments)
    running = sum(deployment.ready for deployment in observed.deployments)
    connected = sum(shard.connected for shard in shards)
    if unaccepted := sum(shard.waiting for shard in shards):
        cause = next((f": {shard.message}" for shard in shards if shard.message and shard.waiting), "")
        return unready(
            "KafkaWriteFailed", f"Kafka has not accepted {unaccepted} records; they are buffered and retried{cause}"
        )
    cause = next((shard.message for shard in shards if shard.message and not shard.connected), "")
    if cause:
        return kafka_secret(cause) or unready("NotConnected", f"{connected} of {desired} connected; {cause}")
    if running < desired or not all(deployment.current for deployment in observed.deployments):
        return unknown("Starting", f"{running} of {desired} pods are ready")
    if diagnosis := _symbols(observed):
        return diagnosis
    if shards and connected < desired:
        return unready("NotConnected", f"{connected} of {desired} connected")
    return _all_connected(f"{desired} of {desired} connected{_clocks(observed)}", shards)


def _all_connected(connected: str, shards: Sequence[Shard]) -> Diagnosis:
    if halted := sorted({symbol for shard in shards for symbol in shard.halted}):
        words = f"the exchange has halted {len(halted)} symbols, which go on when it does"
        return ready(f"{connected}; {words}: {shortened(halted)}", "SymbolsHalted")
    if left_out := next((shard.left_out for shard in shards if shard.left_out), ()):
        words = f"{len(left_out)} symbols beyond spec.symbolSelector.maxSymbols are left out"
        return ready(f"{connected}; {words}: {shortened(list(left_out))}", "SymbolsLeftOut")
    return ready(connected)


def _clocks(observed: Observed) -> str:
    """Return which nodes' clocks are off, in whole seconds: times of arrival are wrong, but no trade is lost."""
    off = [
        f"the clock of shard {shard.shard} differs by {shard.clock_ahead:+.0f} s from the exchange's"
        for shard in observed.shards
        if shard.clock_ahead
    ]
    return f"; {', '.join(off)}" if off else ""


def _symbols(observed: Observed) -> Diagnosis | None:
    """Diagnose the symbols that do not flow; None if the exchange delivers all that it trades."""
    if symbols := _refused(observed):
        return unready(
            "SymbolsRejected",
            "correct or remove the symbols that the exchange rejects; the other symbols are not affected. "
            + shortened(symbols),
        )
    if silent := sorted(symbol for shard in observed.shards for symbol in shard.silent):
        return unready(
            "SymbolsSilent",
            "the exchange does not deliver these symbols; they are being subscribed again. " + shortened(silent),
        )
    return None


def symbols_refused(observed: Observed) -> Diagnosis:
    """Diagnose whether the exchange refuses symbols: True, the bad state, names each with the exchange's words.

    Unknown until an ingest pod answers; the symbols of pods that do not answer are not counted.
    """
    if not observed.shards:
        return unknown("NoConnection", "no connection to the exchange is running")
    if not (symbols := _refused(observed)):
        return unready("NoneRefused", "the exchange refuses no symbol")
    return ready(f"{len(symbols)} refused; they are tried again. " + shortened(symbols), "SymbolsRefused")


def _refused(observed: Observed) -> list[str]:
    """Return each refused symbol with the exchange's words. Of trades, the channel is not named."""
    return [
        f"{symbol}: {error}" if shard.channel == TRADES.name else f"{shard.channel} of {symbol}: {error}"
        for shard in observed.shards
        for symbol, error in shard.refused
    ]
