"""The ExchangeFeed: its model, and the CustomResourceDefinition derived from it."""
