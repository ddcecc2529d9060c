"""The contract that every part of K2 shares: trades, topics, tables, feeds. It knows no engine and opens no socket."""
