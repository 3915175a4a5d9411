"""An OpenID Connect provider of our own, on a real port, that consents at once and can be told to misbehave."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT_ID = "marvain-hub"
SECRET = "s3cret: of the client/hub"


class TestProvider:
    """`claims` go over what an honest ID token says; `forge` is "", "none", "hs256" or "stranger"."""

    __test__ = False

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
        self.issuer = ""
        self.told_issuer = ""
        self.claims: dict[str, Any] = {}
        self.forge = ""
        self.padding = ""
        self._codes: dict[str, dict[str, str]] = {}
        self.app = FastAPI()
        self.app.get("/.well-known/openid-configuration")(self.metadata)
        self.app.get("/jwks")(self.keys)
        self.app.get("/authorize")(self.authorize)
        self.app.post("/token")(self.token)

    def metadata(self) -> dict[str, str]:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
        found = {name: f"{self.issuer}/{path}" for name, path in names.items()}
        return {"issuer": self.told_issuer or self.issuer, "x": self.padding, **found}

    def keys(self) -> dict[str, Any]:
        return {"keys": [{"kty": "future"}, self.key.as_dict(private=False)]}

    def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        answer = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}", status_code=302)

    async def token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        asked = self._codes.pop(form.get("code", ""), None)
        basic = base64.b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            asked is None
            or [unquote(part) for part in basic.split(":")] != [CLIENT_ID, SECRET]
            or challenge != asked["code_challenge"]
            or form.get("redirect_uri") != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self._signed(asked["nonce"])})

    def _signed(self, nonce: str) -> str:
        now = int(time.time())
        honest = {"iss": self.issuer, "aud": CLIENT_ID, "sub": "ann-at-provider", "nonce": nonce, "iat": now}
        claims = {**honest, "exp": now + 300, "email": "ann@example.org", "email_verified": True, **self.claims}
        if self.forge == "none":
            parts = (b'{"alg":"none"}', json.dumps(claims).encode())
            return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
        if self.forge == "hs256":
            shared = OctKey.import_key(base64.b64encode(self.key.as_der(private=False)).decode())
            return jwt.encode({"alg": "HS256", "kid": "first"}, claims, shared)
        key = RSAKey.generate_key(2048) if self.forge == "stranger" else self.key
        return jwt.encode({"alg": "RS256", "kid": "first"}, claims, key)


@contextmanager
def running() -> Iterator[TestProvider]:
    """A provider that listens."""
    provider = TestProvider()
    server = uvicorn.Server(uvicorn.Config(provider.app, host="127.0.0.1", port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    waiting = threading.Event()
    while not server.started:
        assert thread.is_alive()
        waiting.wait(0.02)
    provider.issuer = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield provider
    server.should_exit = True
    thread.join(10)
