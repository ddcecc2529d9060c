"""Desired state of a feed: pure functions from a feed and settings to manifests, deterministic across processes."""

from k2.operator.desired.config import config_map
from k2.operator.desired.ingest import ingest_deployments
from k2.operator.desired.jobs.rebuild import rebuild_job, rebuilt_parts
from k2.operator.desired.monitors import monitors
from k2.operator.desired.naming import Manifest
from k2.operator.desired.network_policy import network_policies
from k2.operator.desired.ownership import obsolete, with_owner
from k2.operator.desired.pdb import pod_disruption_budget
from k2.operator.desired.service import service
from k2.operator.desired.spark import spark_applications
from k2.operator.desired.topics import kafka_topics
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.sharding import Counts

__all__ = ["children", "obsolete", "with_owner"]


def children(
    feed: ExchangeFeed,
    settings: Settings,
    *,
    restart: str = "",
    processes: int = 1,
    counts: Counts = (),
    rebuilding: bool = False,
    rebuilds: bool = False,
) -> tuple[Manifest, ...]:
    """Build all objects of a feed, in the order in which they are applied: dependencies first.

    `restart` is the feed's restart-nonce annotation: another value restarts the layers. `processes` is the number of
    ingest processes that share the feed's address, its own included. `counts` are the numbers of shards by which its
    symbols are spread now; none: as the feed says. `rebuilding`: Silver and Gold are to be built again, so they do not
    run; `rebuilds`: by a Job that may begin, or that has ended and is kept for its log.
    """
    return (
        *kafka_topics(feed, settings),
        config_map(feed, processes, counts),
        service(feed),
        *monitors(feed, settings),
        *network_policies(feed, settings),
        pod_disruption_budget(feed),
        *ingest_deployments(feed, settings, counts),
        *spark_applications(feed, settings, restart, stopped=rebuilt_parts(feed) if rebuilding else ()),
        *((rebuild_job(feed, settings),) if rebuilds else ()),
    )
