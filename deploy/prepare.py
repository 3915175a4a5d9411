"""Prepares the database of the containers and tells how to come in: `python prepare.py`, before the services start."""

import os
import sys
from urllib.parse import quote

from hub import logs
from hub.settings import Settings
from marvain.cli.errors import exit_code, explain
from marvain.instance import Instance, default_folder
from marvain.preparation import prepare


def main() -> int:
    """Migrate, set the hub's password, print the set-up link while nobody owns the hub; 0 or the exit code of `up`."""
    settings = Settings()
    web = os.environ.get("MARVAIN_PUBLIC_WEB", "http://127.0.0.1:8000").rstrip("/")
    try:
        prepared = prepare(settings.database_url, Instance(default_folder()), demo=False)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        sys.stderr.write(f"prepare: {explain(error)}\n")
        return code
    if prepared.setup_token is None:
        said = f"sign in   {web}/sign-in"
    else:
        said = f"set up    {web}/setup/{quote(prepared.setup_token)}\n          (works once, for the first admin)"
    print(f"\nThe database is ready.\n\n{said}\n", flush=True)  # noqa: T201  it is for the person at the terminal
    return 0


if __name__ == "__main__":
    logs.configure(Settings())
    sys.exit(main())
