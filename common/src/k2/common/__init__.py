"""What every K2 process shares: configuration, logs, input validation, the schema registry client."""
