"""What the API server checks of an ExchangeFeed beyond types, and the sentence it answers with.

Rules are CEL, as Kubernetes 1.30 knows it. Its `duration()` has no days, so durations are counted in milliseconds here.
A rule over all symbols must stay within the server's cost limit: nothing compares each symbol with each other one.
"""

from itertools import permutations
from typing import Any, Final

from k2.schemas.exchanges.spec import EXCHANGES, QUOTES, RENAMED, ExchangeFacts
from k2.schemas.feed.model import TRIGGERS_IN_RETENTION
from k2.schemas.topics import NOT_FOR_TRADES
from k2.schemas.values import seconds

DURATION: Final = r"^[1-9][0-9]{0,8}(ms|s|m|h|d)$"
NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MAX_NAME: Final = 40
MAX_SYMBOL: Final = 31  # a base and a quote of fifteen, and what stands between them
_MAX_URL: Final = 2048
_MAX_DURATION: Final = 11
_MAX_QUANTITY: Final = 21
_HOST: Final = r"(\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9][a-zA-Z0-9._-]{0,252})"
_PORT: Final = r"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9][0-9]|6[0-4][0-9][0-9][0-9]|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """One entry of `x-kubernetes-validations`."""
    return {"rule": expression, "message": message, **more}


def matches(value: str, pattern: str) -> str:
    """CEL: `value` matches."""
    return f"{value}.matches(r'{pattern}')"


def millis(value: str) -> str:
    """CEL: the milliseconds of a duration that is known to be one."""
    units = f"{value}.endsWith('m') ? 60000 : {value}.endsWith('h') ? 3600000 : 86400000"
    return f"int({value}.find('^[0-9]+')) * ({value}.endsWith('ms') ? 1 : {value}.endsWith('s') ? 1000 : {units})"


def duration(low: str, high: str) -> dict[str, Any]:
    """The schema of a duration between two others."""
    least, most = (round(seconds(bound) * 1000) for bound in (low, high))
    return {
        "pattern": DURATION,
        "maxLength": _MAX_DURATION,
        "x-kubernetes-validations": [
            rule(
                f"{matches('self', DURATION)} && [{millis('self')}].all(ms, ms >= {least} && ms <= {most})",
                f"must be between {low} and {high}; write a whole number and ms, s, m, h or d, such as 10s",
            )
        ],
    }


def url(*schemes: str, optional: bool) -> dict[str, Any]:
    """The schema of a URL without credentials."""
    whole = rf"({'|'.join(schemes)})://{_HOST}{_PORT}([/?#][!-~]*)?"
    pattern = f"^({whole})?$" if optional else f"^{whole}$"
    begins = " or ".join(f"{scheme}://" for scheme in schemes)
    message = f"must be a URL that begins with {begins} and holds no user name or password"
    return {
        "pattern": pattern,
        "maxLength": _MAX_URL,
        "x-kubernetes-validations": [rule(matches("self", pattern), message)],
    }


def patterned(pattern: str, limit: int, message: str) -> dict[str, Any]:
    """The part of a schema that tells a pattern in words."""
    return {"maxLength": limit, "x-kubernetes-validations": [rule(matches("self", pattern), message)]}


def quantity(pattern: str) -> dict[str, Any]:
    """The schema of CPU or memory."""
    return patterned(pattern, _MAX_QUANTITY, "must be a quantity such as 500m, 2 or 2Gi")


def topic(pattern: str) -> dict[str, Any]:
    """The schema of a topic's name."""
    made = patterned(pattern, 200, "must be letters, digits, '.', '_' and '-', at most 200 of them")
    taken = " || ".join(f"self.startsWith('{prefix}')" for prefix in NOT_FOR_TRADES)
    made["x-kubernetes-validations"] += [
        rule("self != '.' && self != '..'", "Kafka has no topics of this name; write letters and digits too"),
        rule(f"!({taken})", f"names that begin with {' or '.join(NOT_FOR_TRADES)} are not for trades; choose another"),
    ]
    return made


IMMUTABLE_EXCHANGE: Final = rule(
    "self == oldSelf", "exchange is immutable; create another ExchangeFeed", reason="FieldValueForbidden"
)

NAME_RULES: Final = [
    rule(
        f"self.metadata.name.size() <= {MAX_NAME}",
        f"metadata.name must have at most {MAX_NAME} characters, because names of pods are made from it",
    ),
    rule(
        matches("self.metadata.name", NAME),
        "metadata.name must be lower-case letters, digits and '-', and begin and end with a letter or digit",
    ),
]


def retention_rule() -> dict[str, str]:
    """A layer's rows outlive its triggers."""
    # The server judges `default: {}` before it fills in what is within.
    readable = " && ".join(f"has({part}) && {matches(part, DURATION)}" for part in ("self.retention", "self.trigger"))
    return rule(
        f"!({readable}) || {millis('self.retention')} >= {TRIGGERS_IN_RETENTION} * {millis('self.trigger')}",
        f"retention must be at least {TRIGGERS_IN_RETENTION} times the trigger; lengthen retention or shorten trigger",
    )


def symbol_rules() -> list[dict[str, str]]:
    """Each exchange's spelling, known quotes where base and quote are written together, and one name a market."""
    rules = [_of(facts, f"^{facts.symbol_pattern}$", spelling(facts)) for facts in EXCHANGES.values()]
    quoted = f"^[A-Z0-9]+({'|'.join(QUOTES)})$"
    known = f"a symbol ends in a quote currency K2 knows: {', '.join(QUOTES)}"
    rules += [
        _of(facts, quoted, known, where=matches("s", f"^{facts.symbol_pattern}$"))
        for facts in EXCHANGES.values()
        if not facts.separator
    ]
    return [*rules, _renamed("kraken")]


def spelling(facts: ExchangeFacts) -> str:
    """How an exchange spells symbols, in words."""
    return f"{facts.name} spells symbols like {facts.symbol_example} ({facts.symbol_pattern})"


def _of(facts: ExchangeFacts, pattern: str, message: str, where: str = "") -> dict[str, str]:
    wrong = f"!{matches('s', pattern)}"
    wrong = f"{where} && {wrong}" if where else wrong
    return rule(
        f"self.exchange != '{facts.name}' || !self.symbols.exists(s, {wrong})",
        f"{message}; correct spec.symbols",
        messageExpression=f"'{message}; correct ' + self.symbols.filter(s, {wrong})[0]",
        fieldPath=".symbols",
    )


def _renamed(exchange: str) -> dict[str, str]:
    """The exchange's own name of an asset and everybody's are one symbol."""
    separator = EXCHANGES[exchange].separator
    same = []
    for name, known in RENAMED.items():
        base, quote = f"{name}{separator}", f"{separator}{name}"
        same += [
            f"s.startsWith('{base}') && s.replace('{base}', '{known}{separator}') in self.symbols",
            f"s.endsWith('{quote}') && s.replace('{quote}', '{separator}{known}') in self.symbols",
        ]
    both = []
    for (base, known_base), (quote, known_quote) in permutations(RENAMED.items(), 2):
        for old, new in (((base, quote), (known_base, known_quote)), ((base, known_quote), (known_base, quote))):
            both.append(f"'{separator.join(old)}' in self.symbols && '{separator.join(new)}' in self.symbols")
    names = " and ".join(f"{name} is {known}" for name, known in RENAMED.items())
    return rule(
        f"self.exchange != '{exchange}' || !(self.symbols.exists(s, {' || '.join(same)}) || {' || '.join(both)})",
        f"each symbol may stand once, and {names}; remove one of the two names from spec.symbols",
        fieldPath=".symbols",
    )
