"""Avro encoding of records and Confluent's wire format."""
