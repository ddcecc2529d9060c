"""A folder whose tables are in a REST catalog: which one it is, so that no other is taken for it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from k2.common.catalog.connection import CatalogType
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec, Problem

ONLY_REST: Final = ("token_file", "oauth2_uri", "scope", "warehouse", "ca_file")  # settings of a REST catalog only

_TYPE: Final = "K2_CATALOG_TYPE"


def are_named(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a REST catalog."""
    return environment.get(_TYPE, "").lower() == CatalogType.REST


def local(root: Path, own: Path) -> dict[str, Any]:
    """Return the settings of tables in the folder, whatever the environment says of a cluster's catalog."""
    catalog = dict.fromkeys(("user", "password", *ONLY_REST), "")
    catalog |= {"type": CatalogType.JDBC, "uri": f"sqlite:///{own}"}
    return {"warehouse": f"file://{root}/warehouse"} | {f"catalog_{name}": value for name, value in catalog.items()}


def check(root: Path, note: Path, own: Path, platform: Platform) -> None:
    """Raise `InvalidSpec` if the tables of the folder `root` are not where `platform` says."""
    is_rest = platform.catalog_type is CatalogType.REST
    noted = json.loads(note.read_text("utf-8")) if note.exists() else None
    if noted is not None and (not is_rest or noted != _place(platform)):
        variables = " ".join(f"{name}={value}" for name, value in noted.items())
        allowed = f"the tables of {root} are in a REST catalog: set {_TYPE}=rest {variables}, or choose another --data"
        raise InvalidSpec([Problem(_TYPE, str(platform.catalog_type), allowed)])
    if is_rest and own.exists():
        allowed = f"the tables of {root} are in its own catalog: unset it, or choose another --data"
        raise InvalidSpec([Problem(_TYPE, str(platform.catalog_type), allowed)])


def write(note: Path, platform: Platform) -> None:
    """Note which REST catalog has the tables; nothing for the folder's own catalog."""
    if platform.catalog_type is CatalogType.REST:
        note.write_text(json.dumps(_place(platform), indent=1), "utf-8")


def _place(platform: Platform) -> dict[str, str]:
    return {
        "K2_CATALOG_URI": platform.catalog_uri,
        "K2_CATALOG_WAREHOUSE": platform.catalog_warehouse,
        "K2_WAREHOUSE": platform.warehouse,
    }
