"""The programs as real processes, a database of one's own for each, and the one way to wait.

Nothing started here outlives the tests, however they end: each program has a watcher that reads a pipe which
only this process holds, and that ends the program when the pipe closes. Logs are files without a name.
"""

import faulthandler
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import anthropic

ROOT = Path(__file__).resolve().parents[2]
# The official client reads variables of these names too, but must get only what a test gives it.
for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
    del os.environ[name]

PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"

# The client would follow a page that leads to itself forever: the run ends after this time, and says where it is.
faulthandler.dump_traceback_later(300, exit=True)

# 32 bytes in base64, as the Console gives out keys.
SIGNING_KEY = "whsec_YSBrZXkgb2YgMzIgYnl0ZXMgdGhhdCBzaWducyBhbGw="
API_KEY = "sk-ant-the-key-of-the-tests"

# Longer than any wait here takes on a busy machine; a test that passes does not wait that long.
PATIENCE_SECONDS = 60
POLL_SECONDS = 0.02

# Runs "$@" until it ends by itself or standard input closes, whichever comes first, and ends as it ended.
WATCHED = """
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ read -r _; kill "$program"; } <&3 2>/dev/null &
watcher=$!
exec 3<&-
wait "$program"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"""


def eventually(what, look):
    """Waits for a result and returns it. Fails, naming `what`, when patience is over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain: {what}")
        time.sleep(POLL_SECONDS)
    return found


class Process:
    """A running program, with these variables and without those of Restante that this process has."""

    def __init__(self, *command, **variables):
        ours = re.compile("RESTANTE_|ANTHROPIC_|DATABASE_URL|RUST_LOG|PG")
        environment = {name: value for name, value in os.environ.items() if not ours.match(name)}
        environment.update(variables, RESTANTE_LOG="json")
        self._log = tempfile.TemporaryFile()
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", WATCHED, "sh", PROGRAMS / command[0], *command[1:]],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which then closes the pipe.
            start_new_session=True,
        )

    def log(self):
        """Everything that the program has written so far."""
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode()

    def logged(self, message):
        """Waits for a log line with this message, and returns the first one."""

        def look():
            ended = self._shell.poll()
            lines = (
                json.loads(line) for line in self.log().splitlines(keepends=True) if line.endswith("}\n")
            )
            found = next((line for line in lines if line.get("message") == message), None)
            if found is None and ended is not None:
                raise AssertionError(f"it ended with {ended}, and had said:\n{self.log()}")
            return found

        return eventually(f"{message!r} in the log", look)

    def stop(self):
        """Asks the program to end, and returns its exit code."""
        self._shell.stdin.close()
        code = self._shell.wait(PATIENCE_SECONDS)
        self._log.close()
        return code


class Simulator:
    """A simulated Claude API, started with these switches."""

    def __init__(self, *switches):
        self.process = Process(
            "restante", "simulate", "--listen", "127.0.0.1:0", "--api-key", API_KEY, *switches
        )
        self.url = "http://" + self.process.logged("answering as the Claude API")["address"]

    def client(self, **options):
        """An official client that refuses answers that lack fields of the SDK's types."""
        given = {
            "api_key": API_KEY,
            "base_url": self.url,
            "max_retries": 0,
            "_strict_response_validation": True,
        }
        return anthropic.Anthropic(**(given | options))

    def steer(self, method, path, body=None):
        """Asks one of the endpoints that only the simulator has."""
        return json.loads(
            post(f"{self.url}/_simulator/{path}", body and json.dumps(body).encode(), {}, method)[1]
        )

    def change_faults(self, **faults):
        self.steer("POST", "faults", faults)

    def requests(self):
        """The requests that the simulator has seen since its journal was cleared, without those to its own endpoints."""
        return self.steer("GET", "requests")["data"]


class Database:
    """A database of its own, with the schema of the programs, on the server that PGHOST names."""

    _count = 0

    def __init__(self):
        Database._count += 1
        name = f"sdk_{os.getpid()}_{Database._count}"
        beside = os.environ["DATABASE_URL"]
        self._psql(beside, f"create database {name}")
        self.url = re.sub(r"/postgres(\?|$)", rf"/{name}\1", beside)
        migrate = Process("restante", "migrate", DATABASE_URL=self.url)
        eventually("the end of the migration", lambda: migrate._shell.poll() is not None)
        log = migrate.log()
        if migrate.stop() != 0:
            raise AssertionError(log)

    def rows(self, query):
        """The rows of a query, each by the names of its columns."""
        return json.loads(self._psql(self.url, f"select coalesce(json_agg(r), '[]') from ({query}) r"))

    def _psql(self, url, statement):
        beside_the_server = Path(os.environ["PG_BIN"]) / "psql"
        psql = beside_the_server if beside_the_server.exists() else shutil.which("psql")
        if psql is None:
            raise AssertionError("psql is missing: install the client of Postgres")
        command = [psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()


def ingest(database, **variables):
    """A running ingest, and the URL for its deliveries."""
    given = {
        "DATABASE_URL": database.url,
        "RESTANTE_LISTEN": "127.0.0.1:0",
        "RESTANTE_OPS_LISTEN": "127.0.0.1:0",
        "RESTANTE_LINGER_SECONDS": "0",
    }
    process = Process("restante-ingest", **(given | variables))
    return process, f"http://{process.logged('receiving deliveries')['address']}/webhooks/anthropic"


def worker(database, simulator, **variables):
    """A running worker."""
    given = {
        "DATABASE_URL": database.url,
        "ANTHROPIC_API_KEY": API_KEY,
        "ANTHROPIC_BASE_URL": simulator.url,
        "RESTANTE_OPS_LISTEN": "127.0.0.1:0",
    }
    process = Process("restante-worker", **(given | variables))
    process.logged("the worker starts")
    return process


_no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(url, body, headers, method="POST"):
    """Status and body of an answer, whatever the status is."""
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with _no_proxy.open(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


class SimulatorTest(unittest.TestCase):
    """Tests beside one simulator, whose switches a class of tests names."""

    switches = ()

    @classmethod
    def setUpClass(cls):
        cls.simulator = Simulator(*cls.switches)
        cls.addClassCleanup(cls.simulator.process.stop)
        cls.client = cls.simulator.client()
        cls.addClassCleanup(cls.client.close)
