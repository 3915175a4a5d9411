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

    # Where the broker listens, and where the hub and the web find it.
    broker_host: str = "127.0.0.1"
    mqtt_host: str = "127.0.0.1"
    mqtt_port: Port = 1883
    ws_port: Port = 1884
    # What devices elsewhere should dial; empty means mqtt_host.
    public_mqtt_host: str = ""

    web_host: str = "127.0.0.1"
    web_port: Port = 8000
    # None: secure exactly when the request came over TLS.
    secure_cookies: bool | None = None
    # Addresses of proxies whose X-Forwarded-* headers count, separated by commas.
    trusted_proxies: str = ""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @property
    def device_mqtt_host(self) -> str:
        """The host that people are told to put into a device."""
        return self.public_mqtt_host or self.mqtt_host

    def hub_password(self) -> str:
        """The hub service's MQTT password; raises FileNotFoundError or ValueError with what to do."""
        if self.hub_password_file is None:
            raise ValueError("set MARVAIN_HUB_PASSWORD_FILE to a file with the hub service's MQTT password")
        return self.hub_password_file.read_text(encoding="utf-8").strip()
