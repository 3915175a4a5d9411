"""How seldom Python's cyclic garbage collector looks through the broker's memory, and how little it then looks at.

Messages, sessions and connections are freed by the counting of references the moment nobody needs them: none of ours
refers to itself once it has ended. The collector's own rhythm suits other programs. Because messages come and go it
would walk all that lives, ten thousand sessions for instance, and nobody is served meanwhile.
"""

import gc
from typing import Final

# Objects made and not freed since it last looked, and how often it looks at those before it looks at older ones.
_YOUNG: Final = 20_000
_MIDDLE: Final = 50
_OLD: Final = 10


def settle() -> None:
    """To be called when everything is loaded: what is there now stays, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
