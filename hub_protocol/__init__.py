"""The wire between satellites, hub, browsers and integrations: topics, messages, and one table that joins them."""

PROTOCOL_VERSION = 1
