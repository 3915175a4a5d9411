"""A fleet of satellites that are none: they speak as real ones do, thousands of them in one process."""
