"""Order books: the state that the messages of an exchange give, and the records that are made of them."""
