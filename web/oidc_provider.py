"""The OpenID Connect provider as this hub sees it: its metadata and keys, the exchange of a code, the ID token."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from hub.errors import Forbidden, HubError
from hub.foreign_identities import Begun, Claims, UnderWay
from hub.settings import Settings

# Asymmetric ones alone: with HS256 whoever knows the public key could sign, with "none" anybody.
ALGORITHMS: Final = ["RS256", "ES256", "PS256"]
LEEWAY_S: Final = 60
_CACHED_S: Final = 300.0
# An unknown key id asks for the keys again, but not more often than this.
_KEYS_AGAIN_S: Final = 10.0
_TIMEOUT: Final = httpx.Timeout(5.0)
# Metadata, keys and tokens are some kilobytes.
_MOST_BYTES: Final = 256 * 1024
_WITHIN_S: Final = 15.0
_AWAY: Final = (
    "The sign-in provider cannot be reached or does not answer properly. Try again later, or use your password."
)
_NOT_VALID: Final = "The provider's answer is not valid, so nobody was signed in. Try again."


class ProviderAway(HubError):
    """The provider, or what the hub needs for talking to it, cannot be reached now."""


@dataclass(frozen=True)
class _Known:
    """Metadata and keys, and when (monotonic seconds) they were fetched."""

    metadata: dict[str, Any]
    keys: KeySet
    fetched_at: float


class Provider:
    """One for the app; metadata and keys are remembered for five minutes. Raises `ProviderAway` when it is away."""

    def __init__(self, settings: Settings) -> None:
        self.issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._secret_file = settings.oidc_client_secret_file
        self._known: _Known | None = None
        self._lock = Lock()

    def address(self, begun: Begun, redirect_uri: str) -> str:
        """Where the browser is sent to sign in."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.code_verifier.encode()).digest()).rstrip(b"=")
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid email",
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        endpoint = self._endpoint(self._ask().metadata, "authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def claims(self, code: str, under_way: UnderWay, now: datetime) -> Claims:
        """Exchange the code; who the verified ID token names. Raises `Forbidden` for one that is not valid."""
        known = self._ask()
        answer = self._exchange(known.metadata, code, under_way)
        raw = answer.get("id_token")
        if not isinstance(raw, str):
            raise Forbidden(_NOT_VALID)
        claims = self._verified(raw, known, under_way.nonce, now.timestamp())
        email = claims.get("email")
        return Claims(
            self.issuer,
            claims["sub"],
            email if isinstance(email, str) and len(email) <= 254 and email.isprintable() else "",
            claims.get("email_verified") is True,
        )

    def _exchange(self, metadata: dict[str, Any], code: str, under_way: UnderWay) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": under_way.redirect_uri,
            "code_verifier": under_way.code_verifier,
        }
        headers = {"Accept": "application/json"}
        try:
            secret = self._secret_file.read_text(encoding="utf-8").strip() if self._secret_file else ""
        except OSError:
            raise ProviderAway("The hub cannot read MARVAIN_OIDC_CLIENT_SECRET_FILE. Tell whoever runs it.") from None
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret and "client_secret_basic" in methods:
            pair = f"{quote(self._client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self._client_id
            if secret:
                form["client_secret"] = secret
        return self._json("POST", self._endpoint(metadata, "token_endpoint"), data=form, headers=headers)

    def _verified(self, raw: str, known: _Known, nonce: str, now: float) -> dict[str, Any]:
        try:
            try:
                claims = jwt.decode(raw, known.keys, algorithms=ALGORITHMS).claims
            except (JoseError, ValueError):
                # The provider may have changed its keys since they were fetched.
                if time.monotonic() - known.fetched_at < _KEYS_AGAIN_S:
                    raise
                claims = jwt.decode(raw, self._ask(anew=True).keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError, KeyError):
            raise Forbidden(_NOT_VALID) from None
        if not (self._is_ours(claims) and _is_timely(claims, now) and _has_nonce(claims, nonce)):
            raise Forbidden(_NOT_VALID)
        return claims

    def _is_ours(self, claims: dict[str, Any]) -> bool:
        """By the issuer that is set, for this client alone or issued to it, about somebody."""
        audience, party, subject = claims.get("aud"), claims.get("azp"), claims.get("sub")
        audiences = [audience] if isinstance(audience, str) else audience
        return (
            claims.get("iss") == self.issuer
            and isinstance(audiences, list)
            and self._client_id in audiences
            and (party == self._client_id or (party is None and len(audiences) == 1))
            and isinstance(subject, str)
            and 0 < len(subject) <= 255
            and subject.isprintable()  # neither NUL nor half a surrogate pair, which Postgres does not take
        )

    def _ask(self, *, anew: bool = False) -> _Known:
        with self._lock:
            known = self._known
            if known is not None and not anew and time.monotonic() - known.fetched_at < _CACHED_S:
                return known
            metadata = self._json("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if metadata.get("issuer") != self.issuer:
                raise ProviderAway(_AWAY)
            try:
                found = self._json("GET", self._endpoint(metadata, "jwks_uri"))["keys"]
                # Kinds that we do not know, and shared secrets, are none of our keys.
                keys = KeySet.import_key_set({"keys": [key for key in found if key["kty"] in {"RSA", "EC"}]})
            except (JoseError, ValueError, TypeError, KeyError):
                raise ProviderAway(_AWAY) from None
            self._known = _Known(metadata, keys, time.monotonic())
            return self._known

    def _endpoint(self, metadata: dict[str, Any], name: str) -> str:
        """An address out of the metadata; never plain HTTP where the issuer has TLS."""
        address = metadata.get(name)
        if not isinstance(address, str) or urlsplit(address).scheme not in {"https", urlsplit(self.issuer).scheme}:
            raise ProviderAway(_AWAY)
        return address

    def _json(self, method: str, address: str, **more: Any) -> dict[str, Any]:
        try:
            with httpx.stream(method, address, timeout=_TIMEOUT, follow_redirects=False, **more) as answer:
                body = json.loads(_bounded(answer))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError):
            raise ProviderAway(_AWAY) from None
        if method == "POST" and answer.status_code in {400, 401}:
            raise Forbidden(_NOT_VALID)
        if answer.status_code != httpx.codes.OK or not isinstance(body, dict):
            raise ProviderAway(_AWAY)
        return body


def _bounded(answer: httpx.Response) -> bytes:
    """The body; raises `ProviderAway` for one that is too large, or takes too long."""
    body, end = bytearray(), time.monotonic() + _WITHIN_S
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > _MOST_BYTES or time.monotonic() > end:
            raise ProviderAway(_AWAY)
    return bytes(body)


def _is_timely(claims: dict[str, Any], now: float) -> bool:
    expires, issued = claims.get("exp"), claims.get("iat")
    if not isinstance(expires, int | float) or not isinstance(issued, int | float):
        return False
    return now < expires + LEEWAY_S and issued <= now + LEEWAY_S


def _has_nonce(claims: dict[str, Any], nonce: str) -> bool:
    sent = claims.get("nonce")
    return isinstance(sent, str) and hmac.compare_digest(sent.encode(errors="replace"), nonce.encode())
