"""The satellite: connects one device to its hub over MQTT."""

__version__ = "0.1.0"
