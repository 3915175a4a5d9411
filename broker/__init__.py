"""Brokers that obey `hub.access`: each module makes one kind of broker do so."""
