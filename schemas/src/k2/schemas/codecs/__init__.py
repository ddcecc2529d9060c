"""Bytes of a record: the Avro encoding and Confluent's wire format."""
