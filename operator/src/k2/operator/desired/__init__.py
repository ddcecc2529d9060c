"""What should exist for a feed: values in, manifests out. The same feed gives the same manifests, always."""

from k2.operator.desired.access import disruption_budget, monitors, network_policies, service
from k2.operator.desired.config import config_map
from k2.operator.desired.ingest import ingest_deployments
from k2.operator.desired.naming import Manifest
from k2.operator.desired.ownership import owned, unwanted
from k2.operator.desired.spark import spark_applications
from k2.operator.desired.topics import kafka_topics
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

__all__ = ["children", "owned", "unwanted"]


def children(feed: ExchangeFeed, settings: Settings, *, restart: str = "") -> tuple[Manifest, ...]:
    """Everything that a feed needs, in the order in which it is applied: what others wait for comes first.

    `restart` is the feed's restart-nonce annotation: another value starts the layers anew.
    """
    return (
        *kafka_topics(feed, settings),
        config_map(feed),
        service(feed),
        *monitors(feed, settings),
        *network_policies(feed, settings),
        disruption_budget(feed),
        *ingest_deployments(feed, settings),
        *spark_applications(feed, settings, restart),
    )
