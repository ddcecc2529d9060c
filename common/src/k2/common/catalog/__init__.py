"""The Iceberg catalog: its address, and how clients reach it."""
