"""Coinbase Exchange's side: matches, heartbeats, and trades by id over REST."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k2.ingest.exchanges.base_venue import Answer, Client, answer, count, iso, json_text, message, number, texts
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import Deal
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import moment, plain

_SUBSCRIBE_WITHIN = 5.0


class CoinbaseVenue:
    """Simulated Coinbase Exchange."""

    paths = ("/",)
    rest_rate, rest_burst = 8.0, 20.0
    ping_every = 0.0

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._natives = {pair.native for pair in pairs}

    def greet(self, client: Client) -> list[str]:
        """Nothing."""
        return []

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Subscribe: the list of subscriptions, then the last match of each product."""
        asked = message(text)
        if asked.get("type") != "subscribe":
            return ['{"type":"error","message":"Malformed JSON","reason":"expected a subscribe message"}']
        products, channels = texts(asked.get("product_ids", [])), texts(asked.get("channels", []))
        unknown = [product for product in products if product not in self._natives]
        known = [product for product in products if product in self._natives]
        replies = [
            json_text({"type": "error", "message": "Failed to subscribe", "reason": f"{name} is not a valid product"})
            for name in unknown
        ]
        if "matches" in channels:
            client.subscribed.update(known)
        if "heartbeat" in channels:
            client.heartbeats.update(known)
        listed = [{"name": channel, "product_ids": sorted(client.subscribed)} for channel in channels]
        replies.append(json_text({"type": "subscriptions", "channels": listed}))
        for product in known:
            replies += [_match(deal, "last_match") for deal in history.newest(product, 1)]
        return replies

    def frames(self, deals: Sequence[Deal], protocol: str = "") -> Iterator[str]:
        """One frame a trade."""
        for deal in deals:
            yield _match(deal, "match")

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """One a second and product, with its last trade id."""
        found = []
        for product in sorted(client.heartbeats):
            last = history.newest(product, 1)
            beat = {"type": "heartbeat", "sequence": 0, "last_trade_id": last[0].id if last else 0}
            found.append(json_text({**beat, "product_id": product, "time": moment(now).isoformat()}))
        return found

    def violation(self, client: Client, now: float) -> str:
        """No subscription within five seconds."""
        late = not client.subscribed and now - client.opened_at > _SUBSCRIBE_WITHIN
        return "no subscription within 5 seconds" if late else ""

    def weight(self, path: str) -> float:
        """One request, one token."""
        return 1.0

    def limited(self) -> Answer:
        """429."""
        return answer({"message": "Public rate limit exceeded"}, 429)

    def rest(self, path: str, query: Mapping[str, str], history: History) -> Answer:
        """Trades of a product, newest first; `after` pages to older ones."""
        parts = path.strip("/").split("/")
        if len(parts) != 3 or parts[0] != "products" or parts[2] != "trades" or parts[1] not in self._natives:
            return answer({"message": "NotFound"}, 404)
        limit, after = count(query, "limit", 1000), query.get("after", "")
        product = parts[1]
        deals = history.before_id(product, int(after), limit) if after.isdigit() else history.newest(product, limit)
        return answer([_row(deal) for deal in reversed(deals)])

    def trade_id(self, deal: Deal) -> str:
        """The number."""
        return str(deal.id)


def _maker(deal: Deal) -> str:
    return "sell" if deal.buy else "buy"


def _match(deal: Deal, kind: str) -> str:
    return (
        f'{{"type":"{kind}","trade_id":{deal.id},"maker_order_id":"{deal.id:08x}-0000-4000-8000-00000000000a",'
        f'"taker_order_id":"{deal.id:08x}-0000-4000-8000-00000000000b","side":"{_maker(deal)}",'
        f'"size":"{number(deal.quantity)}","price":"{number(deal.price)}","product_id":"{deal.pair.native}",'
        f'"sequence":{deal.id * 3},"time":"{iso(deal)}"}}'
    )


def _row(deal: Deal) -> dict[str, Any]:
    return {
        "time": iso(deal), "trade_id": deal.id, "price": plain(deal.price), "size": plain(deal.quantity),
        "side": _maker(deal),
    }  # fmt: skip
