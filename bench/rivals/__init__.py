"""What K2 is measured against."""
