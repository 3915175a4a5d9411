"""What actions can do: one file for each tool, and the registry that knows them all."""
