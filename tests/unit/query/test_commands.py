import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from k2.cli.commands import query, sql
from k2.cli.embedded.layout import Layout
from tests.unit.query.conftest import Append, trade

K2 = Callable[..., Result]
FULL = Path("/dev/full")


@pytest.fixture
def k2(layout: Layout) -> K2:
    app = typer.Typer()
    query.register(app)
    sql.register(app)

    def call(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--data", str(layout.root)])

    return call


def test_every_format_has_the_same_values(k2: K2, append: Append) -> None:
    append([trade(1, price=Decimal("0.000000000001"))])
    row = json.loads(k2("trades", "--format", "json").stdout)
    assert row["price"] == "0.000000000001"
    assert row["timestamp"] == "2026-01-31T12:00:00.000000Z"
    header, line = k2("trades", "--format", "csv").stdout.splitlines()
    assert line.split(",")[header.split(",").index("price")] == "0.000000000001"
    assert "0.000000000001" in k2("trades").stdout.splitlines()[1].split()
    parquet = pq.read_table(io.BytesIO(k2("trades", "--format", "parquet").stdout_bytes))
    arrow = pa.ipc.open_stream(k2("trades", "--format", "arrow").stdout_bytes).read_all()
    assert parquet.to_pylist() == arrow.to_pylist()
    assert arrow.to_pylist()[0]["price"] == Decimal("0.000000000001")
    assert arrow.schema.field("timestamp").type == pa.timestamp("us", "UTC")


def test_output_writes_the_result_to_a_file(k2: K2, append: Append, tmp_path: Path) -> None:
    append([trade(1)])
    target = tmp_path / "trades.parquet"
    assert k2("trades", "--format", "parquet", "--output", str(target)).exit_code == 0
    assert pq.read_table(target).column("trade_id").to_pylist() == ["1"]
    refused = k2("trades", "--format", "parquet", "--output", str(tmp_path / "absent" / "x"))
    assert (refused.exit_code, "cannot be written" in refused.stderr) == (2, True)


def test_a_pipe_or_link_as_output_is_written_to_and_not_replaced(k2: K2, append: Append, tmp_path: Path) -> None:
    append([trade(1)])
    pipe, target, link = tmp_path / "pipe", tmp_path / "target.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    link.symlink_to(target)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert k2("sql", "SELECT 1 AS one", "--format", "csv", "--output", str(pipe)).exit_code == 0
        assert os.read(reading, 100) == b"one\n1\n"
    finally:
        os.close(reading)
    assert pipe.is_fifo()
    assert k2("sql", "SELECT 2 AS two", "--format", "csv", "--output", str(link)).exit_code == 0
    assert (link.is_symlink(), target.read_text()) == (True, "two\n2\n")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["link.csv", "target.csv"]


@pytest.mark.parametrize("output", ["", "."])
def test_a_folder_as_output_is_an_error(k2: K2, append: Append, output: str) -> None:
    append([trade(1)])
    refused = k2("trades", "--output", output)
    assert (refused.exit_code, refused.stderr) == (
        2,
        ". cannot be written: Is a directory; choose another --output\n",
    )


@pytest.mark.skipif(not FULL.is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["table", "json", "csv", "parquet", "arrow"])
def test_a_result_that_cannot_be_written_exits_with_2(append: Append, layout: Layout, form: str) -> None:
    append([trade(1)])
    command = [sys.executable, "-m", "k2.cli.main", "trades", "--data", str(layout.root), "--format", form]
    with FULL.open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert (done.returncode, done.stderr) == (2, "standard output cannot be written: No space left on device\n")


def test_a_table_shows_100_rows_and_reports_the_limit(k2: K2, append: Append) -> None:
    append([trade(n, n) for n in range(101)])
    shown = k2("trades")
    assert (len(shown.stdout.splitlines()), "showing 100 trades" in shown.stderr) == (101, True)
    assert len(k2("trades", "--format", "json").stdout.splitlines()) == 101


def test_ohlcv_sql_and_snapshots_print_their_rows(k2: K2, append: Append) -> None:
    snapshot = append([trade(1)])
    append([trade(2, 1)])
    assert json.loads(k2("ohlcv", "--symbol", "BTCUSDT", "--format", "json").stdout)["trade_count"] == 2
    counted = k2("sql", "SELECT count(*) AS n FROM gold_crypto_trades", "--format", "csv", "--as-of", str(snapshot))
    assert counted.stdout == "n\n1\n"
    listed = [json.loads(line) for line in k2("snapshots", "--format", "json").stdout.splitlines()]
    assert next(row["snapshot_id"] for row in listed) == snapshot


BAD = [
    ["trades", "--symbol", "ETHUSDT"],
    ["trades", "--symbol", "BTC/USD"],
    ["trades", "--symbol", "BTC"],
    ["trades", "--exchange", "nyse"],
    ["trades", "--start", "2026-01-02T00:00:00Z", "--end", "2026-01-01T00:00:00Z"],
    ["trades", "--start", "2026-01-02T00:00:00"],
    ["trades", "--start", "2026-02-30T00:00:00Z"],
    ["trades", "--end", "yesterday"],
    ["trades", "--window-minutes", "0"],
    ["trades", "--window-minutes", "nan"],
    ["trades", "--window-minutes", "5", "--start", "2026-01-02T00:00:00Z"],
    ["trades", "--as-of", "7"],
    ["ohlcv", "--symbol", "BTCUSDT", "--interval", "7m"],
    ["sql", "SELEC 1"],
    ["sql", "SELECT * FROM nothing"],
    ["sql", "SELECT 1 AS a, 2 AS a", "--format", "json"],
    ["sql", "SELECT union_value(n := 1) AS a", "--format", "parquet"],
    ["sql", ""],
    ["sql", "SELECT 1; SELECT 2"],
    ["sql", "SELECT * FROM read_csv('/etc/passwd')"],
    ["trades", "--symbol", ""],
    ["trades", "--symbol", "' OR 1=1--"],
    ["trades", "--exchange", ""],
    ["trades", "--as-of", "yesterday"],
    ["trades", "--as-of", "99999999999999999999"],
    ["trades", "--window-minutes", "1e300"],
    ["snapshots", "--table", "../gold"],
    ["snapshots", "--table", "gold"],
]


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_bad_input_prints_one_line_and_exits_with_2(k2: K2, append: Append, words: list[str]) -> None:
    append([trade(1)])
    result = k2(*words)
    assert (result.exit_code, len(result.stderr.splitlines()), result.stdout) == (2, 1, ""), result.output


def test_a_folder_without_a_platform_exits_with_3(k2: K2, layout: Layout) -> None:
    result = k2("trades")
    assert (result.exit_code, "there is no catalog" in result.stderr) == (3, True)
    assert not layout.root.exists()
    layout.root.mkdir()
    layout.catalog.write_text("this is no database, however long it is" * 100)
    result = k2("trades")
    assert (result.exit_code, "cannot be read" in result.stderr) == (3, True)


def test_a_closed_pipe_is_silent_and_an_error_is_one_line(append: Append, layout: Layout) -> None:
    append([trade(n, n) for n in range(20_000)])
    command = [sys.executable, "-m", "k2.cli.main", "trades", "--data", str(layout.root), "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        assert process.stderr.read() == b""
    refused = subprocess.run([*command, "--symbol", "NONE"], capture_output=True, check=False, text=True)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr


def test_help_does_not_import_the_engine() -> None:
    code = (
        "import sys, k2.cli.commands.query; sys.exit(any(n in sys.modules for n in ('duckdb', 'pyarrow', 'pyiceberg')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", [["trades"], ["ohlcv", "--symbol", "BTCUSDT"]])
def test_hybrid_needs_a_running_platform(k2: K2, append: Append, command: list[str]) -> None:
    append([trade(1)])
    refused = k2(*command, "--hybrid")
    assert (refused.exit_code, "start it with k2 up" in refused.stderr) == (3, True)
    assert k2(*command).exit_code == 0
