"""Numeric streams of devices: stored by time, condensed with age, read as series, shown live to who looks."""
