"""Running a query on DuckDB: chunked scans, top-N scans, cancellation, results."""
