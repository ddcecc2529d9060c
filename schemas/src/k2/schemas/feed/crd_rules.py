"""CEL rules by which the API server validates an ExchangeFeed beyond types, and their messages.

The CEL is that of Kubernetes 1.30. Its `duration()` has no days, so durations are compared in milliseconds. A rule
over all symbols must stay within the server's cost limit: no rule compares every symbol with every other.
"""

from itertools import permutations
from typing import Any, Final

from k2.schemas.channels import CHANNELS, TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import MAX_ASSET, ExchangeSpec
from k2.schemas.feed.model import SELECTOR_RETAINS, SYMBOLS_OR_SELECTOR, TRIGGERS_IN_RETENTION
from k2.schemas.feed.shards import AUTO, BOUNDS_IN_ORDER, SHARDS_ALLOWED
from k2.schemas.topics import RESERVED_PREFIXES
from k2.schemas.values import seconds

DURATION: Final = r"^[1-9][0-9]{0,8}(ms|s|m|h|d)$"
NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MAX_NAME: Final = 40
MAX_SYMBOL: Final = 2 * MAX_ASSET + 1  # base and quote, and a separator
_MAX_URL: Final = 2048
_MAX_DURATION: Final = 11
_MAX_QUANTITY: Final = 21
_HOST: Final = r"(\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9][a-zA-Z0-9._-]{0,252})"
_PORT: Final = r"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9][0-9]|6[0-4][0-9][0-9][0-9]|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
_PATH: Final = r"[A-Za-z0-9._~!$&()*+,;=:@%/-]"


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """Return one entry of `x-kubernetes-validations`."""
    return {"rule": expression, "message": message, **more}


def matches(value: str, pattern: str) -> str:
    """Return the CEL expression that is true if `value` matches `pattern`."""
    return f"{value}.matches(r'{pattern}')"


def millis(value: str) -> str:
    """Return the CEL expression of a valid duration's milliseconds."""
    units = f"{value}.endsWith('m') ? 60000 : {value}.endsWith('h') ? 3600000 : 86400000"
    return f"int({value}.find('^[0-9]+')) * ({value}.endsWith('ms') ? 1 : {value}.endsWith('s') ? 1000 : {units})"


def duration(low: str, high: str, word: str = "") -> dict[str, Any]:
    """Return the schema of a duration between `low` and `high`, or of a word in its place."""
    least, most = (round(seconds(bound) * 1000) for bound in (low, high))
    pattern = f"{DURATION}|^{word}$" if word else DURATION
    within = f"[{millis('self')}].all(ms, ms >= {least} && ms <= {most})"
    within = f"(self == '{word}' || {within})" if word else within
    allowed = f"must be {f'{word}, or ' if word else ''}between {low} and {high}"
    return {
        "pattern": pattern,
        "maxLength": _MAX_DURATION,
        "x-kubernetes-validations": [
            rule(
                f"{matches('self', pattern)} && {within}",
                f"{allowed}; write a whole number and ms, s, m, h or d, such as 10s",
            )
        ],
    }


def url(*schemes: str, optional: bool) -> dict[str, Any]:
    """Return the schema of a URL without credentials and query; with a fragment, for a protocol, if it is required."""
    fragment = "" if optional else "(#[a-z0-9]{1,16})?"
    whole = rf"({'|'.join(schemes)})://{_HOST}{_PORT}(/{_PATH}*)?{fragment}"
    pattern = f"^({whole})?$" if optional else f"^{whole}$"
    begins = " or ".join(f"{scheme}://" for scheme in schemes)
    nothing = "user name, password, query or fragment" if optional else "user name, password or query"
    message = f"must be a URL that begins with {begins} and contains no {nothing}"
    return {
        "pattern": pattern,
        "maxLength": _MAX_URL,
        "x-kubernetes-validations": [rule(matches("self", pattern), message)],
    }


def patterned(pattern: str, limit: int, message: str) -> dict[str, Any]:
    """Return the part of a schema that reports a pattern mismatch as a sentence."""
    return {"maxLength": limit, "x-kubernetes-validations": [rule(matches("self", pattern), message)]}


def quantity(pattern: str) -> dict[str, Any]:
    """Return the schema of an amount of CPU or memory."""
    return patterned(pattern, _MAX_QUANTITY, "must be a quantity such as 500m, 2 or 2Gi")


def topic(pattern: str) -> dict[str, Any]:
    """Return the schema of a topic's name."""
    schema = patterned(pattern, 200, "must consist of at most 200 letters, digits, '.', '_' and '-'")
    reserved = " || ".join(f"self.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES)
    schema["x-kubernetes-validations"] += [
        rule("self != '.' && self != '..'", "not a valid Kafka topic name; use letters and digits too"),
        IMMUTABLE_TOPIC,
        rule(f"!({reserved})", f"names that begin with {' or '.join(RESERVED_PREFIXES)} are reserved; choose another"),
    ]
    return schema


IMMUTABLE_EXCHANGE: Final = rule(
    "self == oldSelf", "exchange is immutable; create another ExchangeFeed", reason="FieldValueForbidden"
)

IMMUTABLE_TOPIC: Final = rule(
    "self == oldSelf", "the topic is immutable; create another ExchangeFeed", reason="FieldValueForbidden"
)


BOUNDS: Final = rule("!has(self.min) || !has(self.max) || self.min <= self.max", f"{BOUNDS_IN_ORDER}; swap them")


def number_or_auto(number: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a bounded number, or `auto` in its place."""
    bounds = {key: value for key, value in number.items() if key not in {"type", "format"}}
    allowed = rule(f"type(self) == int || self == '{AUTO}'", SHARDS_ALLOWED)
    return {**bounds, "x-kubernetes-int-or-string": True, "x-kubernetes-validations": [allowed]}


def partitions_rule() -> dict[str, str]:
    """Return the rule that a topic never loses partitions; 0 stands for the exchange's number of them."""
    names_by_number: dict[int, list[str]] = {}
    for name, spec in EXCHANGES.items():
        names_by_number.setdefault(spec.partitions, []).append(name)
    (_, most), *others = sorted(((len(names), number) for number, names in names_by_number.items()), reverse=True)
    default = str(most)
    for _, number in others:
        default = f"self.exchange in {sorted(names_by_number[number])} ? {number} : {default}"

    def number_of(spec: str, default: str) -> str:
        given = f"{spec}.kafka.partitions"
        return f"(has({spec}.kafka) && has({given}) && {given} > 0 ? {given} : ({default}))"

    def never_falls(default: str) -> str:
        return f"{number_of('self', default)} >= {number_of('oldSelf', default)}"

    (others_default,) = {str(channel.partitions) for channel in CHANNELS if channel.partitions}
    has_others = f"has(oldSelf.channels) && oldSelf.channels.exists(c, c != '{TRADES.name}')"
    return rule(
        f"{never_falls(default)} && (!({has_others}) || {never_falls(others_default)})",
        "kafka.partitions never falls, because Kafka cannot remove partitions; keep the number or raise it",
        fieldPath=".kafka.partitions",
        reason="FieldValueForbidden",
    )


NAME_RULES: Final = [
    rule(
        f"self.metadata.name.size() <= {MAX_NAME}",
        f"metadata.name must have at most {MAX_NAME} characters, because pod names are derived from it",
    ),
    rule(
        matches("self.metadata.name", NAME),
        "metadata.name must be lower-case letters, digits and '-', and begin and end with a letter or digit",
    ),
]


def retention_rule() -> dict[str, str]:
    """Return the rule that a layer's rows outlive its triggers."""
    # The server validates `default: {}` before it fills in the nested defaults.
    readable = " && ".join(f"has({part}) && {matches(part, DURATION)}" for part in ("self.retention", "self.trigger"))
    return rule(
        f"!({readable}) || {millis('self.retention')} >= {TRIGGERS_IN_RETENTION} * {millis('self.trigger')}",
        f"retention must be at least {TRIGGERS_IN_RETENTION} times the trigger; lengthen retention or shorten trigger",
    )


def feed_rules() -> list[dict[str, str]]:
    """Return the rules over several fields: each exchange's spelling and channels, and duplicate symbols."""
    rules = [_symbol_rule(spec, f"^{spec.symbol_pattern}$", spec.spelling) for spec in EXCHANGES.values()]
    rules.append(rule("has(self.symbols) != has(self.symbolSelector)", SYMBOLS_OR_SELECTOR))
    rules.append(rule("!has(self.symbolSelector) || self.deletionPolicy != 'Delete'", SELECTOR_RETAINS))
    rules.append(partitions_rule())
    rules += [_channel_rule(spec) for spec in EXCHANGES.values() if len(spec.channels) < len(CHANNELS)]
    rules += [_depth_rule(spec) for spec in EXCHANGES.values()]
    return [*rules, *(_unique_symbols_rule(spec) for spec in EXCHANGES.values() if spec.asset_names)]


def _symbol_rule(spec: ExchangeSpec, pattern: str, message: str) -> dict[str, str]:
    wrong = f"!{matches('s', pattern)}"
    return rule(
        f"self.exchange != '{spec.name}' || !has(self.symbols) || !self.symbols.exists(s, {wrong})",
        f"{message}; correct spec.symbols",
        messageExpression=f"'{message}; correct ' + self.symbols.filter(s, {wrong})[0]",
        fieldPath=".symbols",
    )


def _channel_rule(spec: ExchangeSpec) -> dict[str, str]:
    return rule(
        f"self.exchange != '{spec.name}' || !has(self.channels) || self.channels.all(c, c in {list(spec.channels)})",
        f"{spec.offer}; remove the others from spec.channels",
        fieldPath=".channels",
    )


def _depth_rule(spec: ExchangeSpec) -> dict[str, str]:
    given = "has(self.book) && has(self.book.depth)"
    return rule(
        f"self.exchange != '{spec.name}' || !({given}) || self.book.depth in {list(spec.depths)}",
        f"{spec.depth_offer.partition('; ')[0]}; correct spec.book.depth, or write 0",
        fieldPath=".book.depth",
    )


def _unique_symbols_rule(spec: ExchangeSpec) -> dict[str, str]:
    """Reject a symbol that is listed twice, once under the exchange's own asset name and once under the common one."""
    separator, renamed = spec.separator, spec.asset_names
    same = []
    for name, common in renamed.items():
        base, quote = f"{name}{separator}", f"{separator}{name}"
        same += [
            f"s.startsWith('{base}') && s.replace('{base}', '{common}{separator}') in self.symbols",
            f"s.endsWith('{quote}') && s.replace('{quote}', '{separator}{common}') in self.symbols",
        ]
    both = []
    for (base, common_base), (quote, common_quote) in permutations(renamed.items(), 2):
        for old, new in (((base, quote), (common_base, common_quote)), ((base, common_quote), (common_base, quote))):
            both.append(f"'{separator.join(old)}' in self.symbols && '{separator.join(new)}' in self.symbols")
    names = " and ".join(f"{name} is {common}" for name, common in renamed.items())
    return rule(
        f"self.exchange != '{spec.name}' || !has(self.symbols) || "
        f"!(self.symbols.exists(s, {' || '.join(same)}) || {' || '.join(both)})",
        f"each symbol may be listed once, and {names}; remove one of the two names from spec.symbols",
        fieldPath=".symbols",
    )
