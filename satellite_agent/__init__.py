"""The satellite: connects one device to its hub over MQTT."""
