"""The listeners' certificate: checked before a port is opened, and read again on SIGHUP."""

import ssl
from pathlib import Path

import structlog

from hub.errors import Invalid

log = structlog.get_logger(__name__)


class Certificate:
    """A certificate with its key; `context` stays the same object, so that open listeners take up a new one."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self.context = self._load()
        # Asked at each handshake, before the certificate is sent.
        self._newest = self.context
        self.context.sni_callback = self._use_newest

    def reload(self) -> bool:
        """Read both files again; when they do not fit, False, and the ones in use stay."""
        try:
            self._newest = self._load()
        except Invalid as error:
            log.error("broker.certificate_kept", reason=error.message)
            return False
        log.info("broker.certificate_loaded", file=str(self._cert_file))
        return True

    def _use_newest(self, peer: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        peer.context = self._newest

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for name, file in (("tls_cert_file", self._cert_file), ("tls_key_file", self._key_file)):
            try:
                file.read_bytes()
            except OSError as error:
                why = error.strerror or str(error)
                raise Invalid(f"MARVAIN_{name.upper()}: {file} cannot be read: {why}", field=name) from None
        try:
            # An encrypted key has nobody to ask for its words.
            context.load_cert_chain(self._cert_file, self._key_file, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise Invalid(
                f"MARVAIN_TLS_CERT_FILE and MARVAIN_TLS_KEY_FILE: {self._cert_file} and {self._key_file} are no"
                f" certificate and its key: {error}",
                field="tls_cert_file",
            ) from None
        return context


def certificate(cert_file: Path | None, key_file: Path | None) -> Certificate | None:
    """What the settings ask for, None for no TLS; raises `Invalid` that names the setting which is missing or wrong."""
    if cert_file is None and key_file is None:
        return None
    if cert_file is None:
        raise Invalid("MARVAIN_TLS_KEY_FILE is set without MARVAIN_TLS_CERT_FILE", field="tls_cert_file")
    if key_file is None:
        raise Invalid("MARVAIN_TLS_CERT_FILE is set without MARVAIN_TLS_KEY_FILE", field="tls_key_file")
    return Certificate(cert_file, key_file)
