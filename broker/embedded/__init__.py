"""Our own MQTT 3.1.1 broker: every file one noun, every decision asked of `hub.access`."""
