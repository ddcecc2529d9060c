"""Response formats, row encoding, cursors and response models."""
