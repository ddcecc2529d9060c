"""The HTTP API: the engine's answers in pages and streams, for whom they are allowed, and as much as this machine can."""
