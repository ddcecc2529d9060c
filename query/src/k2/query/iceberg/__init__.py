"""The Iceberg side of a query: catalog, snapshots, manifests, scan planning."""
