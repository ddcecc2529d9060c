"""The transforms of the medallion layers: Bronze, Silver, Gold and bars."""
