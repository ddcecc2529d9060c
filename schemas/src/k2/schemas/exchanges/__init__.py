"""Static facts about each exchange: names, symbol spelling, sequence scheme."""
