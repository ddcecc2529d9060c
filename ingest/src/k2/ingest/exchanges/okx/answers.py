"""OKX v5 spot: which REST errors are final, and which forbid requests for a while."""

from k2.ingest.exchanges.answers import FinalAnswer, History, Pause, RestAnswers, coded
from k2.schemas.states import GapReason

_ERRORS = 'okx.com/docs-v5, "Error Code", REST API, public'
_DAY = 86_400.0

ANSWERS = RestAnswers(
    coded("code", "msg", success=("0",)),
    final=(
        FinalAnswer((200, 400), "51001", GapReason.UNKNOWN_SYMBOL, _ERRORS),  # Instrument ID doesn't exist
        FinalAnswer((200, 400), "51000", GapReason.BAD_REQUEST, _ERRORS),  # Parameter error
        FinalAnswer((200, 400), "50014", GapReason.BAD_REQUEST, _ERRORS),  # Parameter can not be empty
        FinalAnswer((200, 400), "50025", GapReason.BAD_REQUEST, _ERRORS),  # Parameter count exceeds the limit
    ),
    pauses=(
        Pause(2, _ERRORS, code="50011"),  # Too Many Requests
        Pause(2, _ERRORS, code="50013"),  # Systems are busy
        Pause(2, _ERRORS, code="50040"),  # Too frequent operations
        Pause(2, _ERRORS, code="50061"),  # Sub-account rate limit exceeded
        Pause(2, _ERRORS, status=429),
    ),
    history=History(
        age=90 * _DAY, newest_first=True, source='okx.com/docs-v5, "Get trades history": the last 3 months'
    ),
)
