"""Mosquitto 2 made to obey `hub.access`, by its dynamic-security plugin: rendered in full, then told differences."""
