"""What an audit need not judge again: hours whose files are those that an audit without findings has judged."""
