"""An exchange on this machine: native websocket and REST protocols, deterministic trades, faults on demand."""
