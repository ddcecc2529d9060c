"""The HTTP API: the engine's answers in pages and streams, for whom they are allowed, as much as a machine can."""
