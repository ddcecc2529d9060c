"""The SQL and the bars that the README and the how-to print run as printed, and what the SQL sums is exact."""

import re
import shlex
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.query.iceberg import catalog, tables
from k2.schemas.channels import CHANNELS, shared_tables
from tests.unit.query.conftest import Append, trade

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", "docs/how-to/query.md")
NOTIONAL = 'k2 sql "select symbol, sum(price*quantity) from gold_crypto_trades group by 1"'


def statements() -> Iterator[str]:
    for page in PAGES:
        printed = r"^\$ ((?:echo .* \| )?k2 (?:sql|ohlcv).*)$"
        commands = re.findall(printed, (ROOT / page).read_text("utf-8"), re.MULTILINE)
        yield from (command for command in commands if "--as-of" not in command)  # whose tags maintenance makes


@pytest.mark.parametrize("command", list(statements()))
def test_every_printed_statement_runs(
    append: Append, layout: Layout, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = catalog.connect(layout.platform())
    tables.ensure(opened, shared_tables(CHANNELS))
    opened.close()
    append([trade(1), trade(1, symbol="ETHUSDT")])
    monkeypatch.chdir(tmp_path)
    Path("queries.sql").write_text("SELECT 1 AS one;\nSHOW TABLES;\n", "utf-8")
    words = shlex.split(re.sub(r" > \S+\.csv$", "", command))
    piped = words[: words.index("|")][1:] if "|" in words else []
    words = words[words.index("k2") + 1 :]
    result = CliRunner().invoke(app, [*words, "--data", str(layout.root)], input=" ".join(piped))
    assert (result.exit_code, result.stderr) == (0, ""), result.output


def test_the_notional_of_the_readme_has_every_digit(append: Append, layout: Layout) -> None:
    assert NOTIONAL in statements()
    amounts = [("60000.36", "1234.5"), ("0.000000000001", "0.000000000001"), ("99999999.5", "999999.000000000001")]
    append([trade(n, n, price=Decimal(p), quantity=Decimal(q)) for n, (p, q) in enumerate(amounts)])
    command = [*shlex.split(NOTIONAL)[1:], "--format", "csv", "--data", str(layout.root)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    # 74070444.42 + 10**-24 + 99999899500000.5000999999995
    assert result.stdout.splitlines()[1] == "BTCUSDT,99999973570444.920099999999500000000001"
