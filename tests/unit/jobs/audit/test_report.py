"""The text of an audit report."""

from k2.jobs.audit.report import ChannelReport, Finding, Report


def test_rebuilt_layers_are_listed_only_after_a_rebuild():
    rebuilt = {"silver": 7297, "dead_letters": 0, "gold": 7168}
    text = Report({"BINANCE": {"trades": ChannelReport(rebuilt=rebuilt)}, "KRAKEN": {"trades": ChannelReport()}}).text()
    assert "rebuilt from Bronze, with the same hashes:" in text
    assert "  BINANCE trades: 7297 rows of silver, 0 rows of dead_letters, 7168 rows of gold" in text
    assert text.endswith("balanced: every row and every id is accounted for")
    assert "rebuilt" not in Report({"KRAKEN": {"trades": ChannelReport()}}).text()


def test_a_layer_that_differs_from_its_rebuild_is_a_finding():
    finding = Finding("BINANCE", "trades", "rebuild_gold", "gold has 5 rows; the rebuild from Bronze has 6 rows")
    text = Report({"BINANCE": {"trades": ChannelReport(rebuilt={"silver": 6})}}, [finding]).text()
    assert "6 rows of silver" in text
    assert text.endswith("1 finding:\n  rebuild_gold: gold has 5 rows; the rebuild from Bronze has 6 rows")


def test_unread_offsets_are_listed_and_a_broker_that_is_down_is_named():
    listed = Report({"OKX": {"trades": ChannelReport(unread={"t/0": 3})}}).text()
    assert "in Kafka, and not read yet:\n  t/0: 3 offsets" in listed
    assert "Kafka does not answer" not in listed
    unknown = Report({"OKX": {"trades": ChannelReport()}, "KRAKEN": {"trades": ChannelReport(unread={})}}).text()
    assert "Kafka does not answer: what Bronze has not read of it is not counted" in unknown


def test_missing_time_is_listed_and_is_no_finding():
    report = Report({"OKX": {"book": ChannelReport(missing_time=["OKX BTCUSDT: 60 s"]), "quotes": ChannelReport()}})
    assert "listed as missing time:\n  OKX BTCUSDT: 60 s" in report.text()
    assert report.verdict == "balanced"


def test_every_channel_of_an_exchange_has_its_line_and_its_part_of_the_document():
    report = Report({"OKX": {"trades": ChannelReport(rows={"gold": 3}), "book": ChannelReport(rows={"gold": 7})}})
    lines = [line.split()[:6] for line in report.text().splitlines()[1:3]]
    assert lines == [["OKX", "trades", "0", "0", "0", "3"], ["OKX", "book", "0", "0", "0", "7"]]
    assert {name: part["rows"] for name, part in report.document()["exchanges"]["OKX"].items()} == {
        "trades": {"gold": 3},
        "book": {"gold": 7},
    }
