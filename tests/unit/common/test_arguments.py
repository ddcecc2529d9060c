"""The argument parser of the processes."""

import pytest

from k2.common.arguments import Parser


def parser() -> Parser:
    made = Parser(prog="k2 simulate")
    made.add_argument("--seed", default="1")
    made.add_argument("--symbols", nargs="*", default=[])
    return made


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sed", "2"], "k2 simulate: no such option: --sed; did you mean --seed?; see k2 simulate --help\n"),
        (["--symbol=BTCUSDT"], "k2 simulate: no such option: --symbol=BTCUSDT; did you mean --symbols?; see"),
        (["--frobnicate"], "k2 simulate: no such option: --frobnicate; see k2 simulate --help\n"),
        (["--seed"], "k2 simulate: argument --seed: expected one argument; see k2 simulate --help\n"),
    ],
)
def test_an_error_is_one_line_with_the_nearest_known_option(capsys, arguments, line):
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(arguments)
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1


def test_known_arguments_are_parsed():
    assert vars(parser().parse_args(["--seed", "2", "--symbols", "a", "b"])) == {"seed": "2", "symbols": ["a", "b"]}
