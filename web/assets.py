"""Static files: read once, known by content, sent compressed, cached for ever under an address that changes with them.

The address holds a hash of the whole folder (`/static/<build>/js/clock.js`), not a query: modules import each other by
relative path, so all of them stay in one build and no module is ever loaded twice under two addresses.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

STATIC_DIR = Path(__file__).parent / "static"
_COMPRESSIBLE = {".css", ".js", ".svg", ".json", ".txt", ".md"}
_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css"}


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, the same compressed (None when that does not pay), its type and its content's hash."""

    body: bytes
    packed: bytes | None
    media_type: str
    etag: str


class Assets:
    """Every file below `folder`; what is not there at the start does not exist, so no request names a path on disk."""

    def __init__(self, folder: Path = STATIC_DIR) -> None:
        self._assets = {
            path.relative_to(folder).as_posix(): _read(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        digest = hashlib.sha256()
        for name, asset in self._assets.items():
            digest.update(f"{name}\0{asset.etag}\0".encode())
        self.build = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """The address of a file, which changes with any file; raises KeyError for one that is not there."""
        if name not in self._assets:
            raise KeyError(name)
        return f"/static/{self.build}/{name}"

    def answer(self, request: Request, build: str, name: str) -> Response:
        """The file, or 304, or 404; under an old build's address the current file, not to be kept."""
        asset = self._assets.get(name)
        if asset is None:
            return Response("There is no such file.\n", status_code=404, media_type="text/plain")
        headers = {
            "ETag": asset.etag,
            "Cache-Control": "public, max-age=31536000, immutable" if build == self.build else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        if asset.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.media_type)
        return Response(asset.body, headers=headers, media_type=asset.media_type)


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    packed = gzip.compress(body, 9, mtime=0) if path.suffix in _COMPRESSIBLE else None
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(
        body=body,
        packed=packed if packed is not None and len(packed) < len(body) else None,
        media_type=media_type,
        etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    )
