"""Places in a text and the names that were probably meant."""

import pytest

from k2.query.sql.cage.diagnosis.positions import Position, did_you_mean, nearest


@pytest.mark.parametrize(
    ("offset", "place"), [(0, (1, 1)), (7, (1, 8)), (10, (1, 10)), (14, (2, 1)), (16, (2, 3)), (99, None), (-1, None)]
)
def test_a_place_counts_characters_in_lines(offset: int, place: tuple[int, int] | None) -> None:
    position = Position.of("select 'é' ,\nx y", offset)
    assert (position and (position.line, position.column)) == place


def test_an_excerpt_of_a_long_line_shows_what_is_around_the_place() -> None:
    text = f"select {'a' * 200}\t, wrong, {'b' * 200}"
    position = Position.of(text, text.index("wrong"))
    assert position
    line, caret = position.excerpt()
    assert line[caret.index("^") :].startswith("wrong")
    assert (len(line) <= 120, "\t" in line, str(position)) == (True, False, "line 1, column 211")


def test_the_nearest_name_is_similar_or_contains_what_was_written() -> None:
    assert nearest("symbl", ["price", "symbol"]) == "symbol"
    assert nearest("trades", ["gold_crypto_trades", "silver_dlq_trades"]) == "gold_crypto_trades"
    assert nearest("zebra", ["price", "symbol"]) is None
    assert (did_you_mean("prise", ["price"]), did_you_mean("x", ["price"])) == ("; did you mean price?", "")
