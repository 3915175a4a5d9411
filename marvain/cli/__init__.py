"""The command line: one file per noun; `marvain.__main__` puts them together."""
