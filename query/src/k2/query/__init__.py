"""Questions to the tables: DuckDB over files that PyIceberg plans. Nothing heavy is imported until it is needed."""
