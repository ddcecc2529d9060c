"""The websocket connection to an exchange and the rules for giving up on it."""
