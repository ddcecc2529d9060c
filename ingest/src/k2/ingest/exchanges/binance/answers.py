"""Binance spot: which REST errors are final, and which forbid requests for a while."""

from k2.ingest.exchanges.answers import FinalAnswer, History, Pause, RestAnswers, coded
from k2.schemas.states import GapReason

_ERRORS = 'developers.binance.com, "Error codes for Binance"'
_LIMITS = 'developers.binance.com, "Limits" of the REST API'
_FIREWALL = 'binance.com, "Frequently Asked Questions on API": Web Application Firewall Limits'
_BAD = GapReason.BAD_REQUEST

ANSWERS = RestAnswers(
    coded("code", "msg"),
    final=(
        FinalAnswer((200, 400), "-1121", GapReason.UNKNOWN_SYMBOL, _ERRORS),  # Invalid symbol
        FinalAnswer((200, 400), "-1100", _BAD, _ERRORS),  # Illegal characters found in a parameter
        FinalAnswer((200, 400), "-1101", _BAD, _ERRORS),  # Too many parameters
        FinalAnswer((200, 400), "-1102", _BAD, _ERRORS),  # A mandatory parameter was not sent
        FinalAnswer((200, 400), "-1103", _BAD, _ERRORS),  # An unknown parameter was sent
        FinalAnswer((200, 400), "-1104", _BAD, _ERRORS),  # Not all sent parameters were read
        FinalAnswer((200, 400), "-1105", _BAD, _ERRORS),  # A parameter was empty
        FinalAnswer((200, 400), "-1106", _BAD, _ERRORS),  # A parameter was sent when not required
        FinalAnswer((200, 400), "-1128", _BAD, _ERRORS),  # Combination of optional parameters invalid
        FinalAnswer((200, 400), "-1130", _BAD, _ERRORS),  # Invalid data sent for a parameter
    ),
    pauses=(
        # The firewall bans the address, usually for five minutes, and its websockets too (node-binance-api issue 233).
        Pause(300, _FIREWALL, status=403, connects=True),
        Pause(30, _LIMITS, status=429),
        Pause(120, _LIMITS, status=418),  # banned, after requests that followed a 429: from 2 minutes on
    ),
    history=History(
        has_floor=True,
        source='binance/binance-public-data issue 376, "aggTrades and historicalTrades return incomplete data."',
    ),
)
