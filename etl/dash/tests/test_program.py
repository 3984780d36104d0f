"""The program: what it refuses, who may look, how it ends."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import HERE, PATIENCE, Dashboard, Runner, eventually
from world import World, ends_with_us


def call(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run app.py to its end, without any database in the environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, str(HERE.parent / "app.py"), *words], env=clean | env, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def get(dashboard: Dashboard, path: str = "/health", **headers: str) -> tuple[int, http.client.HTTPMessage]:
    """Ask for a path, with headers of our own."""
    connection = http.client.HTTPConnection(urlsplit(dashboard.url).netloc, timeout=PATIENCE)
    connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers


def basic(name: str, password: str) -> str:
    """Write the header of a name and a password."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_without_a_database_it_says_what_to_do() -> None:
    """`make dash` on a fresh machine ends with help, not with a stack."""
    done = call()
    assert done.returncode == 2
    for part in ("no database is configured", "DATABASE_URL", "PGSERVICE", "load.readers", "make dash SYNTHETIC=0.01"):
        assert part in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--listen", "0.0.0.0:0"], "0.0.0.0 can be reached from other machines"),
        (["--listen", "[::]:0"], ":: can be reached from other machines"),
        (["--listen", "8050"], "want HOST:PORT"),
        (["--prefix", "lightning"], "begins and ends with a slash"),
        (["--password-file", "/nowhere"], "the password file cannot be read"),
        (["--listen", "192.0.2.1:1", "--behind-proxy"], "cannot listen on 192.0.2.1:1"),
    ],
)
def test_what_it_refuses(words: list[str], said: str) -> None:
    """Nothing is open to others by mistake."""
    done = call(*words, DATABASE_URL="postgresql://dashboard@127.0.0.1:1/postgres")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_password_is_asked_for(run: Runner, tmp_path: Path) -> None:
    """Names and passwords come from a file that only its owner can read."""
    line = call("--make-password", "ann", stdin="open sesame\n").stdout
    assert line.startswith("ann:scrypt:")
    assert "sesame" not in line
    assert call("--make-password", "ann", stdin="short\n").returncode == 2
    file = tmp_path / "passwords"
    file.write_text(line)
    file.chmod(0o644)
    refused = call("--listen", "0.0.0.0:0", "--password-file", str(file), DATABASE_URL="x")
    assert (refused.returncode, "can be read by others" in refused.stderr) == (2, True)
    file.chmod(0o600)
    dashboard = run("postgresql://dashboard@127.0.0.1:1/postgres", "--password-file", str(file), listen="0.0.0.0:0")
    assert "other machines too; asks for a password" in dashboard.said()
    dashboard.url = dashboard.url.replace("0.0.0.0", "127.0.0.1")
    for path in ("/", "/health", "/csv/daily.csv", "/_dash-layout", "/assets/page.css"):
        status, headers = get(dashboard, path)
        assert (status, headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert get(dashboard, Authorization=basic("ann", "wrong"))[0] == 401
    assert get(dashboard, Authorization=basic("bob", "open sesame"))[0] == 401
    for _ in range(2):
        assert get(dashboard, Authorization=basic("ann", "open sesame"))[0] == 503
    assert "sesame" not in dashboard.said()


def test_another_sites_name_is_refused(dashboard: Dashboard, run: Runner, filled: World) -> None:
    """A web page whose name is made to point here cannot read it; a proxy that we were told of may."""
    assert get(dashboard, Host="evil.example")[0] == 403
    assert get(dashboard, Host="localhost:8050")[0] == 200
    assert get(run(filled.reader(), "--behind-proxy"), Host="charts.example")[0] == 200


def test_under_a_path_of_a_proxy(run: Runner, filled: World) -> None:
    """Page, numbers and files are below the prefix."""
    dashboard = run(filled.reader(), "--prefix", "/lightning/", "--behind-proxy")
    assert dashboard.url.endswith("/lightning/")
    for path in ("/lightning/", "/lightning/health", "/lightning/csv/map.csv?year=2018&month=8", "/lightning/_dash-layout", "/lightning/assets/behaviour.js"):
        assert get(dashboard, path)[0] == 200, path
    assert get(dashboard, "/lightning/csv/nothing.csv")[0] == 404
    with urllib.request.urlopen(dashboard.url, timeout=PATIENCE) as answer:
        scripts = set(re.findall(r'(?:src|data-plotly)="([^"]+)"', answer.read().decode()))
    assert {Path(path).name for path in scripts} >= {"draw.js", "plotly-cartesian.min.js"}
    for path in scripts:
        assert path.startswith("/lightning/")
        assert get(dashboard, path)[0] == 200, path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_a_signal_also_when_the_database_hangs(run: Runner, filled: World, number: int) -> None:
    """Questions that are still open do not hold it."""
    dashboard = run(filled.reader())
    assert get(dashboard)[0] == 200
    with filled.admin() as connection:
        pids = [int(str(row[0])) for row in connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'duoflow-dash'")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            asking = [http.client.HTTPConnection(urlsplit(dashboard.url).netloc, timeout=PATIENCE) for _ in range(3)]
            for one in asking:
                one.request("GET", "/csv/daily.csv?year=1999")
            assert dashboard.end(number) == 0
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def test_duoctl_is_told_the_address(run: Runner, filled: World, tmp_path: Path) -> None:
    """As a job of duoflowd it says one line of itself."""
    file = tmp_path / "status"
    dashboard = run(filled.reader(), DUOFLOW_STATUS_FILE=str(file))
    assert eventually(file.exists, bool, "the status line")
    assert file.read_text() == dashboard.url + "\n"


def test_libpq_variables_are_enough(run: Runner, filled: World, tmp_path: Path) -> None:
    """PGSERVICE and PGSERVICEFILE say which database; DATABASE_URL says it alone, whatever duoflowd has set for the job."""
    service = tmp_path / "service.conf"
    service.write_text(f"[warehouse]\nhost=127.0.0.1\nport={filled.postgres.port}\ndbname=postgres\nuser=dashboard\npassword={filled.postgres.password}\n")
    dashboard = run("", PGSERVICE="warehouse", PGSERVICEFILE=str(service))
    assert get(dashboard)[0] == 200
    service.write_text("[warehouse]\nuser=etl_7\npassword=of-the-epoch\n")
    dashboard = run(filled.reader(), PGSERVICE="warehouse", PGSERVICEFILE=str(service))
    assert get(dashboard)[0] == 200


def test_programs_can_read_where_it_is(filled: World, tmp_path: Path) -> None:
    """With -o json standard output is one line, said when the page is served; nothing of the reader's password is in it."""
    service = tmp_path / "service.conf"
    service.write_text(f"[warehouse]\nhost=127.0.0.1\nport={filled.postgres.port}\ndbname=postgres\nuser=dashboard\npassword={filled.postgres.password}\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k != "DATABASE_URL"} | {"PGSERVICE": "warehouse", "PGSERVICEFILE": str(service)}
    command = [*ends_with_us("TERM"), sys.executable, str(HERE.parent / "app.py"), "--listen", "127.0.0.1:0", "-o", "json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            told = json.loads(line)
            assert (told["this_machine_only"], told["asks_for_password"]) == (True, False)
            with urllib.request.urlopen(told["url"] + "health", timeout=PATIENCE) as answer:
                assert json.load(answer)["problem"] is None
            assert filled.postgres.password not in line
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stdout.read() == ""
