"""A throw-away PostgreSQL server: in a temporary folder, on a socket and a loopback port, never as root."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.tooling import require, run

ROLES = Path(__file__).resolve().parents[2] / "template/infra/postgres/10-roles.sql"
ADMINISTRATOR = "administrator"


def as_ordinary_user() -> list[str]:
    """Return what runs a command as somebody who is not root: PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    return ["setpriv", f"--reuid={user}", "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups", "--"]


class Server:
    """Starts at once; `stop` removes everything."""

    def __init__(self) -> None:
        programs = require("initdb").resolve().parent
        self._psql = require("psql")
        # A socket's path may have some hundred bytes, which a test's own folder exceeds.
        self._folder = Path(tempfile.mkdtemp(prefix="slipway-pg-"))
        self._folder.chmod(0o755)
        data, self._log = self._folder / "data", self._folder / "log"
        prefix = as_ordinary_user()
        if prefix:
            shutil.chown(self._folder, prefix[1].partition("=")[2])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        accounts: list[str] = ["--username", ADMINISTRATOR, "--auth-local=trust", "--auth-host=scram-sha-256"]
        initdb = str(programs / "initdb")
        run([*prefix, initdb, "--pgdata", str(data), "--no-sync", "--encoding=UTF8", "--locale=C", *accounts])
        # Everything that could be logged is.
        logging = "-c log_statement=all -c log_min_duration_statement=0 -c log_transaction_sample_rate=1"
        settings = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off {logging}"
        self._control = [*prefix, str(programs / "pg_ctl"), "--pgdata", str(data)]
        # It keeps the output open for as long as it runs, so it gets none.
        subprocess.run(
            [*self._control, "--wait", "--silent", "--log", str(self._log), "--options", settings, "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )

    def stop(self) -> None:
        """Stop and remove it."""
        run([*self._control, "--mode=immediate", "--silent", "stop"], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """Return what the server has logged so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def psql(
        self,
        database: str,
        sql: str,
        *,
        user: str = ADMINISTRATOR,
        password: str | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run SQL; with a password over TCP, where it counts, otherwise on the socket, where nobody is asked."""
        host = str(self._folder) if password is None else "127.0.0.1"
        return run(
            [self._psql, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"],
            env={
                "PGHOST": host,
                "PGPORT": str(self.port),
                "PGUSER": user,
                "PGDATABASE": database,
                "PGPASSWORD": password or "",
                "PGCONNECT_TIMEOUT": "10",
            },
            input=sql,
            check=check,
        )

    def value(self, database: str, sql: str, user: str = ADMINISTRATOR) -> str:
        """Return what a query gives."""
        return self.psql(database, sql, user=user).stdout.strip()

    def problem(self, database: str, sql: str, user: str) -> str:
        """Run SQL that must fail and return the error."""
        told = self.psql(database, sql, user=user, check=False)
        assert told.returncode != 0, f"{user} may: {sql}"
        return told.stderr.strip()

    def make_roles(
        self,
        database: str,
        user: str = ADMINISTRATOR,
        owner_password: str | None = "owner-secret",  # noqa: S107 - made up
        app_password: str | None = "app-secret",  # noqa: S107
        *,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run the script as the service `roles` does."""
        passwords = {"POSTGRES_OWNER_PASSWORD": owner_password, "POSTGRES_APP_PASSWORD": app_password}
        return run(
            [self._psql, "--no-psqlrc", "--quiet", f"--file={ROLES}"],
            env={
                "PGHOST": str(self._folder),
                "PGPORT": str(self.port),
                "PGUSER": user,
                "PGDATABASE": database,
                **{name: value for name, value in passwords.items() if value is not None},
            },
            check=check,
        )
