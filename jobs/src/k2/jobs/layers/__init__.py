"""The medallion layers: Kafka to Bronze, Bronze to Silver, Silver to Gold, Gold to bars."""
