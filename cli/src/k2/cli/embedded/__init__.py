"""The whole platform on one machine: broker, registry, catalog, ingest and Spark under one folder."""
