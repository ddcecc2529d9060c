"""Java: discovery, archives and the start of Spark's JVM. Needs no Spark session."""
