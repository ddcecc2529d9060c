"""`k2 sql` with a file or a pipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import Result
from typer.testing import CliRunner

from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from tests.unit.query.conftest import Append, trade

Sql = Callable[..., Result]


@pytest.fixture
def sql(layout: Layout, append: Append) -> Sql:
    append([trade(1)])

    def call(*words: str, text: str = "") -> Result:
        return CliRunner().invoke(app, ["sql", *words, "--data", str(layout.root)], input=text)

    return call


def test_a_pipe_may_have_several_statements(sql: Sql) -> None:
    done = sql("--format", "json", text="SELECT 1 AS a; SELECT ';' AS b;\n SELECT 3 AS c")
    assert (done.exit_code, list(map(json.loads, done.stdout.splitlines()))) == (0, [{"a": 1}, {"b": ";"}, {"c": 3}])


def test_commands_of_the_shell_work_in_a_pipe(sql: Sql) -> None:
    done = sql(text="\\d\n\\format csv\n\\d gold_crypto_trades\n\\q\nSELECT 1")
    tables, _, columns = done.stdout.partition("format is csv\n")
    assert (done.exit_code, tables.split()) == (0, ["NAME", "gold_crypto_trades"])
    assert columns.splitlines()[1].startswith("message_id,VARCHAR")
    assert columns.count("\n") == 16


def test_a_file_stops_at_the_first_error_and_names_its_place(sql: Sql, tmp_path: Path) -> None:
    file, target = tmp_path / "q.sql", tmp_path / "out.csv"
    file.write_text("SELECT 1 AS a;\n\n-- a comment;\n  SELECT 2,\n symbl FROM gold_crypto_trades;\nSELECT 3;")
    done = sql("-f", str(file), "--format", "csv")
    assert (done.exit_code, done.stdout) == (2, "a\n1\n")
    assert done.stderr == f'{file}:5:2: there is no column "symbl"; did you mean symbol?\n'
    assert sql("-f", str(file), "--format", "csv", "--output", str(target)).exit_code == 2
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SELECT 1; DROP TABLE x;", "stdin:1: DROP is not allowed, only SELECT and what else reads"),
        ("SELECT 1;  SELECT nope", 'stdin:1:19: there is no column "nope"'),
        ("\n\\frmat", "stdin:2: \\frmat is no command"),
        ("\\timing perhaps", "stdin:1: 'perhaps' is neither on nor off"),
        ("\\format parquet", "stdin:1: 'parquet' is no format of the shell"),
        ("  -- nothing", "stdin has no statement"),
    ],
)
def test_an_error_of_a_pipe_is_one_line(sql: Sql, text: str, sentence: str) -> None:
    done = sql(text=text)
    assert (done.exit_code, done.stderr.startswith(sentence), done.stderr.count("\n")) == (2, True, 1), done.stderr


def test_a_binary_format_has_one_statement(sql: Sql) -> None:
    done = sql("--format", "arrow", text="SELECT 1 AS a;")
    assert pa.ipc.open_stream(done.stdout_bytes).read_all().to_pylist() == [{"a": 1}]
    done = sql("--format", "arrow", text="SELECT 1; SELECT 2")
    assert (done.exit_code, done.stdout, "stdin has several statements" in done.stderr) == (2, "", True)


def test_a_statement_and_a_file_exclude_each_other(sql: Sql, tmp_path: Path) -> None:
    assert "not both" in sql("SELECT 1", "-f", str(tmp_path / "q.sql")).stderr
    absent = sql("-f", str(tmp_path / "q.sql"))
    assert (absent.exit_code, "cannot be read" in absent.stderr) == (2, True)
