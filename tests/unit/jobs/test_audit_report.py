"""What the audit tells a person."""

from k2.jobs.audit.report import ExchangeReport, Finding, Report


def test_what_was_built_anew_is_told_and_else_nothing_of_it():
    same = {"silver": 7297, "dead_letters": 0, "gold": 7168}
    told = Report({"BINANCE": ExchangeReport(rebuilt=same), "KRAKEN": ExchangeReport()}).text()
    assert "rebuilt from Bronze, with the same hashes:" in told
    assert "  BINANCE: 7297 rows of silver, 0 rows of dead_letters, 7168 rows of gold" in told
    assert told.endswith("balanced: every row and every id is accounted for")
    assert "rebuilt" not in Report({"KRAKEN": ExchangeReport()}).text()


def test_a_layer_that_differs_is_a_finding():
    finding = Finding("BINANCE", "rebuild_gold", "gold holds 5 rows; Bronze gives 6 rows")
    told = Report({"BINANCE": ExchangeReport(rebuilt={"silver": 6})}, [finding]).text()
    assert "6 rows of silver" in told
    assert told.endswith("1 finding:\n  rebuild_gold: gold holds 5 rows; Bronze gives 6 rows")
