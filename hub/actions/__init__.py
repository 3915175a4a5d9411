"""Actions: proposed by anybody who may, decided by people or by policies that people wrote, done once, and told of."""
