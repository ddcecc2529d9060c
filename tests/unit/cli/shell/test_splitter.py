"""Statements and commands of a text, and where each begins."""

import pytest

from k2.cli.shell.splitter import Piece, is_complete, split

TEXTS = {
    "select 1": [Piece("select 1", 1, 1, complete=False)],
    "select 1;;\n select 2 ;": [Piece("select 1", 1, 1), Piece("select 2", 2, 2)],
    "-- one; two\n/* ; */ select 1; -- three": [Piece("select 1", 2, 9)],
    "select ';', \"a;b\", $$;$$, $x$;$$;$x$;": [Piece("select ';', \"a;b\", $$;$$, $x$;$$;$x$", 1, 1)],
    "select 'it''s;';select E'\\';';": [Piece("select 'it''s;'", 1, 1), Piece("select E'\\';'", 1, 17)],
    "select -- ;\n 1;": [Piece("select -- ;\n 1", 1, 1)],
    "\\d gold\nselect 1;": [Piece("\\d gold", 1, 1), Piece("select 1", 2, 1)],
    "select 'open;": [Piece("select 'open;", 1, 1, complete=False)],
    "select /* open;": [Piece("select /* open;", 1, 1, complete=False)],
    " \n-- nothing": [],
}


@pytest.mark.parametrize(("text", "pieces"), TEXTS.items())
def test_semicolons_end_statements_but_not_within_texts_and_comments(text: str, pieces: list[Piece]) -> None:
    assert list(split(text)) == pieces
    assert is_complete(text) == all(piece.complete for piece in pieces)


def test_a_long_text_takes_linear_time() -> None:
    text = "select '" + "''" * 200_000 + "';" + "select 1;\n" * 20_000
    assert len(list(split(text))) == 20_001
