"""The exchange simulator: native websocket and REST protocols, deterministic trades, injectable faults."""
