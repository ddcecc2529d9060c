"""A name for a user without an entry in passwd, such as OpenShift's: Hadoop's login fails for one without a name.

Spark's image does the same in its entry point, for drivers and executors; the JVMs that K2 starts itself bypass that.
`HADOOP_USER_NAME` is read after the login and does not help, and a container's passwd cannot be written.
"""

import os
import pwd
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_FOLDERS: Final = ("/usr/lib", "/lib")
_LIBRARY: Final = "libnss_wrapper.so"
_RETAINED: Final[list[tempfile.TemporaryDirectory[str]]] = []  # until this process ends; the JVM reads them at any time


def variables(environment: Mapping[str, str], folders: Iterable[str] = _FOLDERS) -> dict[str, str]:
    """Return the variables by which a child process has a name; none if its user has one, or the library is missing."""
    if "NSS_WRAPPER_PASSWD" in environment or _has_entry():
        return {}
    library = next((path for folder in folders for path in sorted(Path(folder).glob(f"**/{_LIBRARY}"))), None)
    if library is None:
        return {}
    _RETAINED.append(tempfile.TemporaryDirectory(prefix="k2-user-"))
    passwd = Path(_RETAINED[-1].name) / "passwd"
    user, group = os.getuid(), os.getgid()
    name = environment.get("LOGNAME") or "k2"
    home = environment.get("HOME") or tempfile.gettempdir()
    passwd.write_text(f"{name}:x:{user}:{group}:{name}:{home}:/bin/false\n")
    preloaded = [str(library), *filter(None, [environment.get("LD_PRELOAD")])]
    return {"LD_PRELOAD": ":".join(preloaded), "NSS_WRAPPER_PASSWD": str(passwd), "NSS_WRAPPER_GROUP": "/etc/group"}


def _has_entry() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True
