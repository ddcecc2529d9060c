"""Bybit v5 spot: which REST errors are final, and which forbid requests for a while."""

from k2.ingest.exchanges.answers import FinalAnswer, History, Pause, RestAnswers, coded
from k2.schemas.states import GapReason

ROWS = 60  # the newest trades of a spot symbol that it returns

_ERRORS = 'bybit-exchange.github.io/docs/v5, "Error Codes"'
_LIMITS = 'bybit-exchange.github.io/docs/v5, "Rate Limit Rules"'

ANSWERS = RestAnswers(
    coded("retCode", "retMsg", success=("0",)),
    # 10001 is also "Not supported symbols": the only parameter of K2's requests that varies is the symbol.
    final=(FinalAnswer((200, 400), "10001", GapReason.UNKNOWN_SYMBOL, _ERRORS),),
    pauses=(
        Pause(5, _ERRORS, code="10006"),  # Too many visits
        Pause(5, _ERRORS, code="10018"),  # Exceeded the IP rate limit
        Pause(600, _LIMITS, status=403, words="access too frequent"),  # the address is banned for ten minutes
        Pause(30, _LIMITS, status=429),
    ),
    history=History(rows=ROWS, source='bybit-exchange.github.io/docs/v5, "Get Recent Public Trades"'),
)
