"""Records of Silver and Gold: each once, with the same values in both."""
