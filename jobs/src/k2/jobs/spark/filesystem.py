"""Files where checkpoints are, local or in a bucket, through the file systems that Spark itself uses."""

from typing import Any

from pyspark.sql import SparkSession


class Files:
    """Reads and lists below any path that Spark can reach."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark._jvm  # noqa: SLF001 - pyspark has no public way to Hadoop's file systems
        self._conf: Any = spark._jsc.hadoopConfiguration()  # noqa: SLF001

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        fs, target = self._open(path)
        return bool(fs.exists(target))

    def names(self, path: str) -> list[str]:
        """The names in a folder; empty if there is none."""
        fs, target = self._open(path)
        if not fs.exists(target):
            return []
        return [entry.getPath().getName() for entry in fs.listStatus(target)]

    def modified(self, path: str) -> float:
        """When a file was last written, seconds since 1970."""
        fs, target = self._open(path)
        return float(fs.getFileStatus(target).getModificationTime()) / 1000

    def read(self, path: str) -> str:
        """A file's text."""
        fs, target = self._open(path)
        stream = fs.open(target)
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def remove(self, path: str) -> bool:
        """Deletes a file, or a folder and all that is in it; whether there was one."""
        fs, target = self._open(path)
        return bool(fs.exists(target)) and bool(fs.delete(target, True))

    def _open(self, path: str) -> tuple[Any, Any]:
        if path.startswith("s3://"):  # as Iceberg writes it; to Hadoop the same place is s3a
            path = f"s3a://{path.removeprefix('s3://')}"
        target = self._jvm.org.apache.hadoop.fs.Path(path)
        return target.getFileSystem(self._conf), target
