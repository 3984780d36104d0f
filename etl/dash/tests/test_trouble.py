"""When something is wrong the page says what, says what to do, and goes on by itself."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import PATIENCE, Dashboard, Runner, Watched, eventually
from world import World

BANNER = "#header .banner"


def drawn_points(watched: Watched) -> int:
    """Count the marks of the first figure."""
    return watched.page.locator("#daily .points path").count()


def test_the_database_goes_and_comes_back(watched: Watched, run: Runner, filled: World) -> None:
    """What was read stays on the page, also for somebody new; what was not read is drawn when it can be."""
    dashboard = run(filled.reader())
    watched.open(dashboard.url)
    points = eventually(lambda: drawn_points(watched), lambda n: n == 366, "figures")
    filled.postgres.stop()
    try:
        watched.says(BANNER, "The database does not answer.")
        watched.says(BANNER, "Nothing to do here: it is tried again every few seconds.")
        watched.says(BANNER, "What is shown was read before")
        assert drawn_points(watched) == points
        watched.page.reload()
        watched.drawn()
        assert drawn_points(watched) == points
        watched.page.focus("#year [role=slider]")
        watched.page.keyboard.press("ArrowRight")
        watched.says("#daily-caption", "The database does not answer.")
    finally:
        filled.postgres.start()
    watched.page.locator(BANNER).wait_for(state="hidden")
    eventually(lambda: watched.graph("daily", "return (gd._fullData[0] || {}).name;"), lambda name: name == "2017", "what was asked meanwhile")
    said = dashboard.said()
    assert said.count("does not answer") == 1, said
    assert "answers again" in said


def test_a_database_that_hangs_is_away(watched: Watched, run: Runner, filled: World) -> None:
    """A frozen server keeps its connections and says nothing; it is not waited for for ever."""
    watched.open(run(filled.reader(), PGAPPNAME="ignored").url)
    with filled.admin() as connection:
        pids = [int(str(row[0])) for row in connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'duoflow-dash'")]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        watched.page.focus("#year [role=slider]")
        watched.page.keyboard.press("ArrowRight")
        eventually(lambda: watched.graph("daily", "return (gd._fullData[0] || {}).name;"), lambda name: name == "2017", "an answer over another connection")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_tables_that_come_later(watched: Watched, run: Runner, filled: World) -> None:
    """First no tables, then empty ones, then data: the page says so each time and ends with figures, without a reload."""
    filled.database("later")
    watched.open(run(filled.reader("later")).url)
    watched.says(BANNER, "The database has no lightning tables, or older ones. Run duoetl init in it, then duoetl run.")
    filled.setup("later")
    watched.says(BANNER, "The lightning tables are empty. Run duoetl run;")
    copy = "SELECT * FROM lightning.{}"
    with filled.admin() as source, filled.admin("later") as target:
        for table in ("day", "month", "cell_month", "chunk"):
            with (
                source.cursor().copy(f"COPY ({copy.format(table)}) TO STDOUT".encode()) as out,
                target.cursor().copy(f"COPY lightning.{table} FROM STDIN".encode()) as into,
            ):
                for block in out:
                    into.write(block)
    watched.page.locator(BANNER).wait_for(state="hidden")
    eventually(lambda: drawn_points(watched), lambda n: n == 366, "figures")
    assert watched.text(".badge").lower() == "synthetic data"


@pytest.fixture
def bare(filled: World) -> str:
    """Have a database whose views the dashboard's role may not read."""
    filled.database("bare", template="postgres")
    with filled.admin("bare") as connection:
        connection.execute("REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM dashboard")
    return "bare"


def test_rights_that_are_missing(watched: Watched, run: Runner, filled: World, bare: str) -> None:
    """Say which rights are missing, and notice when they are given."""
    watched.open(run(filled.reader(bare)).url)
    watched.says(BANNER, "The role may not read the lightning views. Name the role under load.readers")
    with filled.admin(bare) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO dashboard")
    watched.page.locator(BANNER).wait_for(state="hidden")


def test_one_question_fails(watched: Watched, run: Runner, filled: World) -> None:
    """What could not be shown is shown later, though nothing that is loaded has changed and health was well all the time."""
    filled.database("locked", template="postgres")
    dashboard = run(filled.reader("locked"))
    with filled.admin("locked") as connection:
        connection.autocommit = False
        connection.execute("LOCK TABLE lightning.cell_month IN ACCESS EXCLUSIVE MODE")
        watched.open(dashboard.url)
        watched.says("#map-caption", "The database took too long to answer.")
        connection.rollback()
    eventually(lambda: watched.text("#map-caption"), lambda text: "strikes in" in text, "the map")


def test_a_role_that_may_write_is_refused(watched: Watched, run: Runner, filled: World) -> None:
    """A page for everybody is no way to the data."""
    watched.open(run(filled.postgres.dsn()).url)
    watched.says(BANNER, "The dashboard's role postgres is a superuser. It must be one that may only read.")
    assert drawn_points(watched) == 0
    with filled.admin() as connection:
        connection.execute(f"CREATE ROLE writer LOGIN PASSWORD '{filled.postgres.password}' IN ROLE dashboard".encode())
        connection.execute("GRANT USAGE ON SCHEMA lightning TO writer; GRANT DELETE ON lightning.day TO writer")
    watched.open(run(filled.postgres.dsn("writer")).url)
    watched.says(BANNER, "role writer may write to lightning.day.")


def test_sessions_are_read_only(run: Runner, filled: World) -> None:
    """Even what the role may do, the session may not."""
    from database import Database

    database = Database(filled.reader())
    shown = database.ask(
        lambda connection: connection.execute("SELECT current_setting('transaction_read_only'), current_setting('statement_timeout')").fetchone()
    )
    assert shown == ("on", "5s")
    database.close()


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("postgresql://dashboard:wrong-Secret1@127.0.0.1:{port}/postgres", "The database refused the login"),
        ("postgresql://dashboard:{password}@127.0.0.1:{port}/nowhere", "The database refused the login, or does not exist."),
        ("postgresql://dashboard:wrong-Secret1@127.0.0.1:{port}/postgres?nonsense=1", "The connection settings cannot be read."),
        ("postgresql://dashboard:wrong-Secret1@127.0.0.1:1/postgres", "The database does not answer."),
        ("service=wrong-Secret1", "The connection settings cannot be read."),
    ],
)
def test_no_secret_is_told(watched: Watched, run: Runner, filled: World, dsn: str, words: str) -> None:
    """Neither the page nor the log repeats a password, also not one within settings that cannot be read."""
    dashboard = run(dsn.format(port=filled.postgres.port, password=filled.postgres.password))
    watched.open(dashboard.url)
    watched.says(BANNER, words)
    for text in (watched.page.content(), dashboard.said()):
        assert "wrong-Secret1" not in text
        assert filled.postgres.password not in text


def test_the_server_goes_and_comes_back(watched: Watched, run: Runner, filled: World) -> None:
    """The page notices that its own server is gone, and draws what was chosen meanwhile."""
    first = run(filled.reader())
    watched.open(first.url)
    first.end()
    watched.page.locator("#gone").wait_for(state="visible")
    assert "The dashboard's server does not answer. It is tried again" in watched.text("#gone")
    watched.page.focus("#year [role=slider]")
    watched.page.keyboard.press("ArrowRight")
    run(filled.reader(), listen=first.url.removeprefix("http://").rstrip("/"))
    watched.page.locator("#gone").wait_for(state="hidden")
    eventually(lambda: watched.graph("daily", "return gd._fullData[0].name;"), lambda name: name == "2017", "what was asked meanwhile")


def test_tables_as_csv_say_what_is_wrong(run: Runner) -> None:
    """A program that fetches numbers gets a status and words."""
    import urllib.error
    import urllib.request

    dashboard: Dashboard = run("postgresql://dashboard@127.0.0.1:1/postgres")
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(f"{dashboard.url}csv/daily.csv", timeout=PATIENCE)
    assert failed.value.code == 503
    assert failed.value.read().startswith(b"The database does not answer.")
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(f"{dashboard.url}health", timeout=PATIENCE)
    assert failed.value.code == 503
