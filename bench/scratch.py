"""An empty database in a folder of its own, for one run of a bench; both are gone afterwards."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hub import migrations
from hub.database import Database
from marvain.embedded_postgres import EmbeddedPostgres

# Benches load by the hundred thousand.
STATEMENT_S = 300.0


@contextlib.contextmanager
def scratch() -> Iterator[tuple[Path, str, Database]]:
    """The folder (the services' own users may pass through it), the database's address, and the database."""
    with tempfile.TemporaryDirectory(prefix="marvain-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        postgres = EmbeddedPostgres(folder / "postgres")
        try:
            url = postgres.start()
            migrations.migrate(url)
            database = Database(url, statement_timeout_s=STATEMENT_S)
            yield folder, url, database
            database.close()
        finally:
            postgres.destroy()
