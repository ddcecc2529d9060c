"""The medallion layers Bronze, Silver and Gold, the gaps and the bars: their transforms and commits."""
