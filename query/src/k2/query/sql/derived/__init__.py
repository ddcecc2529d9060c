"""What statements of users can read beside the tables: views of them, computed when they are read."""
