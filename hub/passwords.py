"""Passwords of people: the rule for new ones, argon2id, and a check that takes the same time for nobody's account."""

import threading
from typing import Final

from pwdlib import PasswordHash

from hub.errors import Invalid, Throttled

MIN_LENGTH: Final = 10
MAX_LENGTH: Final = 200
_MIN_DIFFERENT: Final = 5
# From the usual lists; compared without case, marks, and digits around them.
_COMMON: Final = frozenset(
    {
        "password",
        "passwordpassword",
        "passw0rd",
        "letmein",
        "letmeinplease",
        "iloveyou",
        "iloveyouforever",
        "welcome",
        "welcomehome",
        "changeme",
        "pleasechangeme",
        "administrator",
        "adminadmin",
        "superman",
        "superuser",
        "rootroot",
        "toortoor",
        "qwertyuiop",
        "qwertzuiop",
        "azertyuiop",
        "qwertyqwerty",
        "asdfghjkl",
        "asdfasdf",
        "zxcvbnm",
        "zaqxswcde",
        "qazwsxedc",
        "qweasdzxc",
        "trustnoone",
        "football",
        "basketball",
        "baseball",
        "sunshine",
        "princess",
        "starwars",
        "dragondragon",
        "monkeymonkey",
        "marvain",
        "marvainmarvain",
        "homeassistant",
        "raspberry",
        "raspberrypi",
        "mosquitto",
        "satellite",
        "satellites",
        "correcthorsebatterystaple",
        "secret",
        "topsecret",
        "geheim",
        "motdepasse",
        "contrasena",
        "abcdefghij",
        "abcdefghijk",
        "abcdefghijkl",
        "abcdef",
        "abcabcabc",
        "testtest",
        "testing",
        "testpassword",
        "defaultpassword",
        "mypassword",
    }
)
_DIGITS: Final = (
    "0123456789012345678901234567890",
    "9876543210987654321098765432109",
    "1234567890" * 3,
    "0987654321" * 3,
)

_hasher: Final = PasswordHash.recommended()
# One hash takes 64 MiB: a flood of sign-ins waits here and does not take the machine's memory.
_turns: Final = threading.BoundedSemaphore(2)
# Whoever waits holds a thread and a database connection, which all other requests need as well.
_places: Final = threading.BoundedSemaphore(8)


def check_new(password: str, *, email: str, field: str = "password") -> None:
    """Raise `Invalid` naming the rule that a new password breaks."""
    if len(password) < MIN_LENGTH:
        raise Invalid(f"Use at least {MIN_LENGTH} characters.", field=field)
    if len(password) > MAX_LENGTH:
        raise Invalid(f"Use at most {MAX_LENGTH} characters.", field=field)
    if "\0" in password:
        raise Invalid("A NUL character cannot be part of a password.", field=field)
    folded = password.casefold().strip()
    if email and folded in {email.casefold(), email.casefold().partition("@")[0]}:
        raise Invalid("Choose something other than your e-mail address.", field=field)
    core = "".join(letter for letter in folded.strip("0123456789!?.-_*#$ ") if letter.isalnum())
    if core in _COMMON or len(set(folded)) < _MIN_DIFFERENT or any(folded in run for run in _DIGITS):
        raise Invalid("This is one of the first passwords that anybody would try. Choose another.", field=field)


def hash_new(password: str) -> str:
    """The form in which a password is stored."""
    with _turns:
        return _hasher.hash(password)


def verify(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Whether `password` is the stored one, and a fresh hash where the stored form is out of date.

    Without a stored one the same work is done for nothing, so that time does not tell which accounts exist.
    Raises `Throttled` when too many wait already.
    """
    if len(password) > MAX_LENGTH:
        password, stored = "", None
    if not _places.acquire(blocking=False):
        raise Throttled("Too many are signing in at this moment. Try again in a second.", retry_after_s=1)
    try:
        with _turns:
            right, fresh = _hasher.verify_and_update(password, stored or _DUMMY)
    finally:
        _places.release()
    return (right, fresh) if stored else (False, None)


_DUMMY: Final = _hasher.hash("nobody has this password")
