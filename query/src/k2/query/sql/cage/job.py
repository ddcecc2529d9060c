"""What the server gives the process of a statement to run. It is pickled: the server is trusted, the process is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow import Schema, Table
    from pyarrow.fs import FileSystem


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """Parquet files in an object store, and how to reach it."""

    paths: list[str]
    schema: Schema
    file_system: FileSystem

    def open(self) -> Any:
        """Return the files as a dataset, into which DuckDB pushes projection and filters."""
        from pyarrow import dataset

        return dataset.dataset(self.paths, format="parquet", schema=self.schema, filesystem=self.file_system)


@dataclass(frozen=True, slots=True)
class Job:
    """A statement that was checked, and the tables that it reads."""

    statement: str
    folder: str = "/"  # local paths are relative to it, so that no message and no plan shows where the lake is
    files: list[str] = field(default_factory=list)  # local ones
    readable: list[str] = field(default_factory=list)  # folders of the local files
    views: dict[str, str] = field(default_factory=dict)  # of local files, by name: the SELECT
    remote: dict[str, RemoteFiles] = field(default_factory=dict)
    rows: dict[str, Table] = field(default_factory=dict)  # of tables that only PyIceberg can read
    derived: list[str] = field(default_factory=list)  # statements that create views and macros of all these
