"""Java for K2: which one, which archives, and how a JVM is started. No pyspark session here."""
