"""The file with the numbers of shards, as a process follows it."""

from k2.ingest.instruments.changes import SpreadFile


def test_a_file_that_cannot_be_read_changes_nothing(tmp_path):
    path = tmp_path / "shards.json"
    file = SpreadFile(path)
    assert file.counts() == ()
    path.write_text('{"counts":[2,3]}')
    assert file.counts() == (2, 3)
    path.write_text("{")
    assert file.counts() == (2, 3)
    path.write_text('{"counts":[3]}')
    assert file.counts() == (3,)
