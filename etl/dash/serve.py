"""The dashboard as a program: where it listens, who may look, and how it ends."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import secrets
import signal
import stat
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import flask
import waitress
from werkzeug.security import check_password_hash, generate_password_hash

import app as application
from data import Data
from database import Database, configured
from queries import Views

USAGE = 2
END_SECONDS = 0.5  # until requests that are still being answered are let go: nothing is lost by that

NO_DATABASE = """dashboard: no database is configured. Say which one, as any of:
  DATABASE_URL=postgresql://dashboard@host/warehouse      (password in ~/.pgpass or PGPASSFILE)
  PGSERVICE=warehouse [PGSERVICEFILE=/etc/duoflow/pg_service.conf]
  PGHOST=host PGDATABASE=warehouse PGUSER=dashboard
The role must be one that may only read: name it under load.readers in duoetl's configuration and run duoetl init.
Without a warehouse, this makes one with synthetic data and says its DATABASE_URL:
  make dash SYNTHETIC=0.01"""

EPILOG = """The database comes from libpq's environment: PGSERVICE with PGSERVICEFILE, PGHOST and so on, or DATABASE_URL.
Exit codes: 0 ended by a signal, 1 failed, 2 usage."""

log = logging.getLogger("dash.serve")


class Refused(Exception):
    """What was asked for is not done: why, and what to do."""


@dataclass
class Passwords:
    """Names and salted hashes from a file; what was found right once is remembered, as a hash takes long to make."""

    hashes: dict[str, str]
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _right: set[bytes] = field(default_factory=set)

    def accept(self, name: str, password: str) -> bool:
        """Tell whether this is somebody's password. It takes as long for a name that nobody has."""
        seen = hmac.digest(self._key, f"{name}\0{password}".encode(), hashlib.sha256)
        if seen in self._right:
            return True
        known = self.hashes.get(name)
        right = check_password_hash(known or next(iter(self.hashes.values())), password) and known is not None
        if right:
            self._right.add(seen)
        return right


def read_passwords(path: Path) -> Passwords:
    """Read lines of name:hash."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Refused(f"{path} can be read by others: chmod 600 {path}")
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise Refused(f"the password file cannot be read: {error.strerror}: {path}") from None
    pairs = [line.partition(":") for line in lines]
    if not pairs or any(not name or not hashed.startswith("scrypt:") for name, _, hashed in pairs):
        raise Refused(f"{path}: want lines of name:hash; `app.py --make-password NAME` writes one")
    return Passwords({name: hashed for name, _, hashed in pairs})


@dataclass(frozen=True)
class Listen:
    """Where to listen."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Tell whether only this machine can reach it."""
        return self.host == "localhost" or is_loopback(self.host)

    @property
    def address(self) -> str:
        """Return the page's address, without a path."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is written as a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_listen(text: str) -> Listen:
    """Read HOST:PORT or [v6]:PORT."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"want HOST:PORT, not {text!r}")
    return Listen(host.strip("[]"), int(port))


def guard(server: flask.Flask, listen: Listen, passwords: Passwords | None, *, behind_proxy: bool) -> None:
    """Let in who may look. On loopback, requests for other hosts' names are refused: a web page must not borrow ours."""

    @server.before_request
    def check() -> flask.Response | None:
        host = (flask.request.host or "").rsplit(":", 1)[0].strip("[]")
        if listen.loopback and not behind_proxy and host != "localhost" and not is_loopback(host):
            return flask.Response("This dashboard answers on this machine only, or behind a proxy with --behind-proxy.\n", 403, mimetype="text/plain")
        if passwords is None:
            return None
        given = flask.request.authorization
        if given and given.type == "basic" and passwords.accept(given.username or "", given.password or ""):
            return None
        return flask.Response(
            "A name and a password are needed.\n", 401, {"WWW-Authenticate": 'Basic realm="lightning", charset="UTF-8"'}, mimetype="text/plain"
        )


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(
        prog="app.py",
        description="Serve the lightning dashboard from the pipeline's views, read-only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--listen",
        type=parse_listen,
        default=Listen("127.0.0.1", 8050),
        metavar="HOST:PORT",
        help="default 127.0.0.1:8050: this machine only; port 0: a free one",
    )
    made.add_argument("--schema", default="public", help="schema of the views (load.schema of duoetl); default public")
    made.add_argument("--prefix", default="/", help="path that a proxy serves it under, as /lightning/; default /")
    made.add_argument("--password-file", type=Path, metavar="FILE", help="lines of name:hash; asks for a name and a password")
    made.add_argument("--behind-proxy", action="store_true", help="a proxy in front asks who it is, and speaks TLS")
    made.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how it says in its one line on standard output where the page is")
    made.add_argument("--make-password", metavar="NAME", help="ask for a password, write a line for the password file, and end")
    return made


def check_options(options: argparse.Namespace) -> Passwords | None:
    """Refuse what would let anybody in."""
    if not options.prefix.startswith("/") or not options.prefix.endswith("/"):
        raise Refused("--prefix begins and ends with a slash")
    if options.password_file:
        return read_passwords(options.password_file)
    if not options.listen.loopback and not options.behind_proxy:
        raise Refused(f"{options.listen.host} can be reached from other machines: give --password-file FILE, or --behind-proxy when a proxy asks who it is")
    return None


def make_password(name: str) -> int:
    """Write a line for the password file."""
    if not name or ":" in name:
        raise Refused("a name has no colon")
    first = getpass.getpass("password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(first) < 8:
        raise Refused("a password has 8 characters at least")
    print(f"{name}:{generate_password_hash(first, method='scrypt')}")
    return 0


def tell_duoflow(address: str) -> None:
    """As a job of duoflowd, say in `duoctl status` where the page is."""
    if path := os.environ.get("DUOFLOW_STATUS_FILE"):
        try:
            with tempfile.NamedTemporaryFile("w", dir=Path(path).parent, delete=False) as file:
                file.write(f"{address}\n")
            Path(file.name).replace(path)
        except OSError as error:
            log.warning("the status line was not written: %s", error.strerror)


def end_soon(number: int, _: FrameType | None) -> None:
    """End at a signal, and do not wait for a database that is away."""
    late = threading.Timer(END_SECONDS, os._exit, [0])
    late.daemon = True
    late.start()
    log.warning("ending: %s", signal.Signals(number).name)
    raise SystemExit(0)


def told(listen: Listen, options: argparse.Namespace, *, asks: bool) -> str:
    """Say in one line where the page is; it is served from here on."""
    address = listen.address + options.prefix
    if options.output == "json":
        return json.dumps({"url": address, "this_machine_only": listen.loopback, "asks_for_password": asks})
    who = "this machine only" if listen.loopback else "other machines too"
    return f"dashboard: {address} ({who}; {'asks for a password' if asks else 'asks nobody for a password'}). Ctrl-C ends it."


def start(options: argparse.Namespace, passwords: Passwords | None, conninfo: str) -> int:
    """Serve until a signal."""
    database = Database(conninfo)
    dash = application.build(Data(database, Views(options.schema)), options.prefix)
    guard(dash.server, options.listen, passwords, behind_proxy=options.behind_proxy)
    settings: dict[str, Any] = {"threads": 8, "ident": None, "channel_timeout": 60}
    if options.behind_proxy:
        settings |= {"trusted_proxy": "*", "trusted_proxy_headers": {"x-forwarded-proto", "x-forwarded-host"}, "clear_untrusted_proxy_headers": True}
    try:
        server = waitress.create_server(dash.server, host=options.listen.host, port=options.listen.port, **settings)
    except OSError as error:
        raise Refused(f"cannot listen on {options.listen.host}:{options.listen.port}: {error.strerror}") from None
    listen = Listen(options.listen.host, server.effective_port)
    print(told(listen, options, asks=passwords is not None), flush=True)
    tell_duoflow(listen.address + options.prefix)
    signal.signal(signal.SIGTERM, end_soon)
    signal.signal(signal.SIGINT, end_soon)
    try:
        server.run()
    finally:
        database.close()
    return 0


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="dashboard: %(message)s", stream=sys.stderr)
    options = parser().parse_args(arguments)
    try:
        if options.make_password:
            return make_password(options.make_password)
        passwords = check_options(options)
        conninfo = configured(os.environ)
        if conninfo is None:
            print(NO_DATABASE, file=sys.stderr)
            return USAGE
        if conninfo:  # libpq would fill what the address leaves out, such as the password, from the service of duoflowd's job
            os.environ.pop("PGSERVICE", None)
        return start(options, passwords, conninfo)
    except Refused as refused:
        print(f"dashboard: {refused}", file=sys.stderr)
        return USAGE
