"""The settings of every Marvain service, from environment variables `MARVAIN_…`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from hub_protocol.topics import DEFAULT_ROOT, check_root

Port = Annotated[int, Field(ge=1, le=65_535)]
HUB_USERNAME = "hub_service"


class Settings(BaseSettings):
    """One object for hub, broker and web; each reads what it needs. Secrets come by file, never by value."""

    model_config = SettingsConfigDict(env_prefix="MARVAIN_", extra="ignore")

    database_url: str
    root: Annotated[str, AfterValidator(check_root)] = DEFAULT_ROOT
    hub_password_file: Path | None = None

    # embedded: ours. mosquitto: started by us with its dynamic-security plugin. external: runs elsewhere; the adapter
    # drives it (dynsec) or answers its questions (http).
    broker: Literal["embedded", "mosquitto", "external"] = "embedded"
    broker_adapter: Literal["dynsec", "http"] = "dynsec"
    # What the adapter signs in with where the broker is external; a file as for all secrets.
    broker_admin_username: str = "marvain_admin"
    broker_admin_password_file: Path | None = None
    # A folder for what the broker keeps over a restart; None: memory only.
    broker_store: Path | None = None
    # fsync each commit, or let the system write within a second (what a power cut may cost).
    broker_sync: Literal["normal", "full"] = "normal"

    # With both, the embedded broker's and Mosquitto's listeners speak TLS, and hub and web pin this certificate.
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None

    # Per address: connections at a time, and CONNECTs per second (with ten times as many at once).
    broker_connections_per_address: Annotated[int, Field(ge=1)] = 2_000
    broker_connects_per_second: Annotated[int, Field(ge=1)] = 200
    # Wrong passwords per minute and address before it has to wait.
    broker_failures_per_minute: Annotated[int, Field(ge=1)] = 30
    # Per device or integration; what comes faster is read more slowly, never lost.
    broker_messages_per_second: Annotated[int, Field(ge=1)] = 500
    broker_bytes_per_second: Annotated[int, Field(ge=1_024)] = 4 * 1024**2
    broker_max_packet_bytes: Annotated[int, Field(ge=1_024, le=268_435_455)] = 256 * 1024
    # How long the session of an absent client is kept.
    broker_session_expiry_s: Annotated[int, Field(ge=60)] = 7 * 24 * 3600

    # Whether Mosquitto, started by us, tells what it refuses; without, it is about a fifth faster.
    mosquitto_refusals: bool = True

    # Of one device, on every broker; a message counts once more for each 8 KiB. Who says more than that for longer than
    # the second number allows, or sends more garbage, is quarantined until it was calm for the last.
    device_messages_per_second: Annotated[int, Field(ge=1)] = 500
    device_messages_at_once: Annotated[int, Field(ge=1)] = 30_000
    device_garbage_per_minute: Annotated[int, Field(ge=1)] = 120
    device_calm_s: Annotated[int, Field(ge=1, le=3_600)] = 60

    # The HTTP door for brokers that ask over HTTP (EMQX, mosquitto-go-auth): internal, with a shared secret.
    http_auth_host: str = "127.0.0.1"
    http_auth_port: Port = 8010
    http_auth_secret_file: Path | None = None

    # Filters outside the root that roles may grant, separated by commas; none unless the hub's owner says so.
    open_topics: str = ""

    # Where the broker listens, and where the hub and the web find it.
    broker_host: str = "127.0.0.1"
    mqtt_host: str = "127.0.0.1"
    mqtt_port: Port = 1883
    ws_port: Port = 1884
    # What devices elsewhere should dial; empty means mqtt_host and mqtt_port.
    public_mqtt_host: str = ""
    public_mqtt_port: Port | None = None

    web_host: str = "127.0.0.1"
    web_port: Port = 8000
    # Of one device or person over HTTP; and wrong tokens of one address.
    http_requests_per_minute: Annotated[int, Field(ge=1)] = 600
    http_failures_per_minute: Annotated[int, Field(ge=1)] = 30
    # Tokens for new devices over plain HTTP, where whoever listens in the network can read them.
    enrol_over_http: bool = False
    # None: secure exactly when the request came over TLS.
    secure_cookies: bool | None = None
    # Addresses of proxies whose X-Forwarded-* headers count, separated by commas.
    trusted_proxies: str = ""

    # Sign-in by an OpenID Connect provider; without an issuer there is none.
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: Path | None = None
    oidc_label: Annotated[str, Field(min_length=1, max_length=60)] = "Sign in with OpenID Connect"

    # For how many days telemetry is kept as it came, by the minute, and by the hour.
    telemetry_raw_days: Annotated[int, Field(ge=7)] = 7
    telemetry_minutes_days: Annotated[int, Field(ge=7)] = 90
    telemetry_hours_days: Annotated[int, Field(ge=7)] = 5 * 366

    # Hosts in private networks that the tools `http_request` and `notify` may reach, as host:port, separated by commas.
    private_hosts: str = ""
    # With what the hub seals the secrets that it has to show to others (webhooks): 32 bytes in hex.
    secrets_key_file: Path | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @property
    def device_mqtt_host(self) -> str:
        """The host that people are told to put into a device."""
        return self.public_mqtt_host or self.mqtt_host

    @property
    def device_mqtt_port(self) -> int:
        """The port that belongs to that host."""
        return self.public_mqtt_port or self.mqtt_port

    def hub_password(self) -> str:
        """The hub service's MQTT password; raises FileNotFoundError or ValueError with what to do."""
        if self.hub_password_file is None:
            raise ValueError("set MARVAIN_HUB_PASSWORD_FILE to a file with the hub service's MQTT password")
        return self.hub_password_file.read_text(encoding="utf-8").strip()
