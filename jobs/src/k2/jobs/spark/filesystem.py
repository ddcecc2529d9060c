"""Access to files on disk or in a bucket through Hadoop's file systems, as Spark accesses its checkpoints."""

from typing import Any

from pyspark.sql import SparkSession


def hadoop_path(path: str) -> str:
    """Return the path by which Hadoop and Spark's own readers know a file of Iceberg: its scheme s3 is their s3a."""
    return f"s3a://{path.removeprefix('s3://')}" if path.startswith("s3://") else path


class FileSystem:
    """Reads, lists and removes files at any path that Spark can reach."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark._jvm  # noqa: SLF001 - pyspark has no public way to Hadoop's file systems
        self._conf: Any = spark._jsc.hadoopConfiguration()  # noqa: SLF001

    def exists(self, path: str) -> bool:
        """Whether a file or folder exists."""
        fs, target = self._open(path)
        return bool(fs.exists(target))

    def names(self, path: str) -> list[str]:
        """Return the names in a folder; empty if it does not exist."""
        fs, target = self._open(path)
        if not fs.exists(target):
            return []
        return [entry.getPath().getName() for entry in fs.listStatus(target)]

    def modified(self, path: str) -> float:
        """Return a file's modification time, in seconds since 1970."""
        fs, target = self._open(path)
        return float(fs.getFileStatus(target).getModificationTime()) / 1000

    def read(self, path: str) -> str:
        """Return a file's text, decoded as UTF-8."""
        fs, target = self._open(path)
        stream = fs.open(target)
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def write(self, path: str, text: str) -> None:
        """Write a file in UTF-8, which appears whole, in place of an older one."""
        fs, target = self._open(path)
        # An object of a bucket appears when it is closed; a local file takes the place of the older one by its rename.
        is_local = str(fs.getUri().getScheme()) == "file"
        written = target.suffix(".partial") if is_local else target
        stream = fs.create(written, True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()
        if is_local and not fs.rename(written, target):
            raise OSError(f"{path} cannot be written")

    def rename(self, path: str, to: str) -> None:
        """Give a file or folder another path, which must not exist yet."""
        fs, source = self._open(path)
        if fs.exists(self._open(to)[1]) or not fs.rename(source, self._open(to)[1]):
            raise OSError(f"{path} cannot be renamed to {to}")

    def remove(self, path: str) -> bool:
        """Delete a file or a folder with its contents; return whether it existed."""
        fs, target = self._open(path)
        return bool(fs.exists(target)) and bool(fs.delete(target, True))

    def _open(self, path: str) -> tuple[Any, Any]:
        target = self._jvm.org.apache.hadoop.fs.Path(hadoop_path(path))
        return target.getFileSystem(self._conf), target
