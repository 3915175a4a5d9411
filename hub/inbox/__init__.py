"""What devices say, turned into rows: one handler per kind of message, each given a whole batch at once."""
