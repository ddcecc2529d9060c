"""Gap repair over an exchange's REST API."""
