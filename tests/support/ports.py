"""Ports for what the tests start: free ones, of a range that is this process's own and that no client is given."""

import itertools
import os
import re
import socket
from typing import Final

# Below the range from which the system gives ports to clients, and above the usual services.
_FIRST: Final = 15_000
_EACH: Final = 4_000
_worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % 4
# Another run at the same time begins elsewhere in the range.
_offsets = itertools.count(os.getpid() * 7)


def free_port() -> int:
    """A port on which nobody listens now, and that is not given out again for a long time."""
    for _ in range(_EACH):
        port = _FIRST + _worker * _EACH + next(_offsets) % _EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError("no port is free")
