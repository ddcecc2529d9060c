"""Jobs that change the tables of a feed whose layers are stopped."""
