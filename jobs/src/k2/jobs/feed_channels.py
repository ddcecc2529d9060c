"""Feeds with their channels: what most jobs iterate over."""

from collections.abc import Iterable

from k2.schemas.channels import Channel
from k2.schemas.feed.model import ExchangeFeed


def feed_channels(
    feeds: Iterable[ExchangeFeed], channels: Iterable[Channel] | None = None
) -> list[tuple[ExchangeFeed, Channel]]:
    """Return each feed with each of its channels. `channels` replaces those that the feeds record."""
    selected = None if channels is None else tuple(channels)
    return [(feed, channel) for feed in feeds for channel in (feed.channels if selected is None else selected)]
