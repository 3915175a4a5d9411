"""A child process that does not outlive its parent: asked of the kernel where it can be."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: the time between fork and exec is no time for loading libraries.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(death: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn`: the child gets `death` when the thread that starts it ends, even by kill -9.

    Linux only; elsewhere None, and the next start clears what was left. It has to run after the change of user, which
    clears the request; subprocess does it in that order.
    """
    if _prctl is None:
        return None
    prctl, parent = _prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, death.value)
        if os.getppid() != parent:
            os.kill(os.getpid(), death)

    return ask
