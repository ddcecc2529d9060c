"""PyIceberg's access to files in S3 whose server has a certificate of an authority of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyarrow.fs import S3FileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CA_FILE: Final = "k2.s3.ca-file"  # a property of K2's: PyIceberg has none for pyarrow's option


class TrustingFileIO(PyArrowFileIO):
    """PyArrow's file systems, with the authorities that the property names."""

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        # What a file system is pickled as: the arguments that PyIceberg made it with.
        _, (arguments,) = super()._initialize_s3_fs(netloc).__reduce__()
        return S3FileSystem(**(arguments | {"tls_ca_file_path": self.properties[CA_FILE]}))
