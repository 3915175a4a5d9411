"""What a satellite can be told to do: one file per verb."""
