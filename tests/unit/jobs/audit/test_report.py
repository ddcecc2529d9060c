"""The text of an audit report."""

from k2.jobs.audit.report import ExchangeReport, Finding, Report


def test_rebuilt_layers_are_listed_only_after_a_rebuild():
    rebuilt = {"silver": 7297, "dead_letters": 0, "gold": 7168}
    text = Report({"BINANCE": ExchangeReport(rebuilt=rebuilt), "KRAKEN": ExchangeReport()}).text()
    assert "rebuilt from Bronze, with the same hashes:" in text
    assert "  BINANCE: 7297 rows of silver, 0 rows of dead_letters, 7168 rows of gold" in text
    assert text.endswith("balanced: every row and every id is accounted for")
    assert "rebuilt" not in Report({"KRAKEN": ExchangeReport()}).text()


def test_a_layer_that_differs_from_its_rebuild_is_a_finding():
    finding = Finding("BINANCE", "rebuild_gold", "gold has 5 rows; the rebuild from Bronze has 6 rows")
    text = Report({"BINANCE": ExchangeReport(rebuilt={"silver": 6})}, [finding]).text()
    assert "6 rows of silver" in text
    assert text.endswith("1 finding:\n  rebuild_gold: gold has 5 rows; the rebuild from Bronze has 6 rows")
