"""Kafka offsets: which of them each layer holds, and which it must hold."""
