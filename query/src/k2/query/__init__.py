"""Query the tables with DuckDB over files that PyIceberg plans. Heavy libraries are imported on first use."""
