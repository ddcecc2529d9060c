"""The ExchangeFeed: its model, and the CustomResourceDefinition generated from it."""

from k2.schemas.feed.model import ExchangeFeed

__all__ = ["ExchangeFeed"]
