"""Coinbase Exchange: which REST errors are final, and which forbid requests for a while.

None is final. It answers 404 NotFound also for products that it lists, and words no bad argument that K2 could send.
"""

from k2.ingest.exchanges.answers import History, Pause, RestAnswers, coded

ANSWERS = RestAnswers(
    coded("", "message"),
    pauses=(Pause(5, 'docs.cdp.coinbase.com, "REST Rate Limits Overview"', status=429),),
    history=History(newest_first=True),
)
