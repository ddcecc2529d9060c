"""Say in a `Job` where the rows of the tables are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from k2.query.iceberg import data_files
from k2.query.iceberg.catalog import ca_file, catalog_errors
from k2.query.sql.cage.job import Job, RemoteFiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from k2.common.platform import Platform
    from k2.query.iceberg.scan_planner import ScanPlan

_HTTP_PORTS = {"http": 80, "https": 443}


def job(statement: str, plans: Mapping[str, ScanPlan], derived: Sequence[str] = ()) -> Job:
    """Return what a process needs to run a statement over the planned files, and no more.

    `derived` are statements that create views and macros of these tables.
    """
    local = {name: plan for name, plan in plans.items() if plan.scan is None and data_files.is_local(plan)}
    files = {name: data_files.paths(plan) for name, plan in local.items() if plan.files}
    folders = {name: os.path.commonpath([os.path.dirname(path) for path in paths]) for name, paths in files.items()}  # noqa: PTH120 - strings, and many
    root = os.path.commonpath(folders.values()) if folders else "/"
    relative = {name: [os.path.relpath(path, root) for path in paths] for name, paths in files.items()}
    views = {name: data_files.select_statement(plan, relative.get(name)) for name, plan in local.items()}
    remote = {
        name: RemoteFiles(*data_files.remote(plan))
        for name, plan in plans.items()
        if name not in local and plan.scan is None
    }
    rows = {}
    for name, plan in plans.items():
        if plan.scan is not None:
            with catalog_errors(name):
                rows[name] = plan.scan.to_arrow()
    allowed = [path for paths in relative.values() for path in paths]
    readable = [*folders.values(), *filter(None, {ca_file(plans[name].table) for name in remote})]
    return Job(statement, root, allowed, readable, views, remote, rows, list(derived))


def network(platform: Platform) -> int | None:
    """Return the TCP port of the object store; None if the warehouse is on local disks."""
    if urlsplit(platform.warehouse).scheme != "s3":
        return None
    endpoint = urlsplit(platform.s3_endpoint or "https://s3.amazonaws.com")
    return endpoint.port or _HTTP_PORTS[endpoint.scheme]
