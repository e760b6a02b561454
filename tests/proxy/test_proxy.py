"""Deliveries through an nginx that keeps its connections: none is lost, whatever the pauses between them are."""

import base64
import collections
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
KEY = bytes(range(32))
# How many seconds ingest keeps an idle connection: by default, the program's own default.
IDLE_SECONDS = os.environ.get("IDLE_SECONDS")
# How many seconds nginx keeps one: its default, and another value that is common among proxies.
KEPT_SECONDS = (60, 75)
# The limit of an ingest that is too impatient, those of nginx, and that of ingest; and for each how many pauses there are, and
# how many deliveries after each: three minutes, and ten thousand deliveries.
LIMITS = ((5, 35, 1), (60, 3, 6), (75, 2, 7), (90, 2, 7))
SENDERS_PER_LIMIT = 100
# A delivery is lost if it uses a connection within a fraction of a millisecond of its end.
AROUND_SECONDS = 0.004
PATIENCE_SECONDS = 60

# Runs "$@" until it ends by itself or standard input closes, whichever comes first.
WATCHED = """
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ read -r _; kill "$program"; } <&3 2>/dev/null &
watcher=$!
exec 3<&-
wait "$program"
kill "$watcher" 2>/dev/null
"""

CONFIGURATION = """
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    # For those who send to nginx.
    keepalive_timeout 600s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {upstreams}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""
# One upstream for each sender, so that each pause is that of one connection.
UPSTREAM = "upstream u{number} {{ server {ingest}; keepalive 1; keepalive_timeout {kept}s; }}"
LOCATION = """location = /{number} {{
            proxy_pass http://u{number}/webhook;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(log, *command, **variables):
    """A program that ends with this process, and writes to `log`."""
    ours = re.compile("RESTANTE_|ANTHROPIC_|RUST_LOG")
    environment = {name: value for name, value in os.environ.items() if not ours.match(name)}
    return subprocess.Popen(
        ["/bin/sh", "-c", WATCHED, "sh", *command],
        env=environment | variables,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def psql(statement):
    command = [Path(os.environ["PG_BIN"]) / "psql", "-XAtq", "-d", os.environ["DATABASE_URL"], "-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def delivery(event_id):
    """A signed delivery: its body and its headers."""
    body = json.dumps({"type": "owl.arrived", "id": event_id, "data": {}}).encode()
    timestamp = str(int(time.time()))
    signature = hmac.digest(KEY, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return body, {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


class Sender(threading.Thread):
    """Deliveries through an upstream of nginx of its own, with pauses that end about when an idle connection may."""

    def __init__(self, number, limit, pauses, deliveries, port):
        super().__init__()
        self.number, self.limit, self.pauses, self.deliveries, self.port = number, limit, pauses, deliveries, port
        self.answers = []

    def run(self):
        nginx = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        for burst in range(1 + self.pauses):
            if burst:
                time.sleep(self.limit + random.uniform(-AROUND_SECONDS, AROUND_SECONDS))
            for number in range(self.deliveries):
                body, headers = delivery(f"whe_{self.number}_{burst}_{number}")
                nginx.request("POST", f"/{self.number}", body, headers)
                answer = nginx.getresponse()
                answer.read()
                self.answers.append(answer.status)
        nginx.close()


class Proxy(unittest.TestCase):
    def test_no_delivery_is_lost_between_a_proxy_and_ingest_whatever_the_pauses_are(self):
        plans = [limit for limit in LIMITS for _ in range(SENDERS_PER_LIMIT)]
        ingest_port, nginx_port = free_port(), free_port()
        with tempfile.TemporaryDirectory() as directory, open(f"{directory}/log", "w+") as log:
            subprocess.run([PROGRAMS / "restante", "migrate"], check=True, stdout=log, stderr=log)
            variables = {
                "ANTHROPIC_WEBHOOK_SIGNING_KEY": "whsec_" + base64.b64encode(KEY).decode(),
                "RESTANTE_LISTEN": f"127.0.0.1:{ingest_port}",
                "RESTANTE_OPS_LISTEN": "127.0.0.1:0",
                "RESTANTE_LINGER_SECONDS": "0",
            }
            if IDLE_SECONDS:
                variables["RESTANTE_IDLE_SECONDS"] = IDLE_SECONDS
            ingest = start(log, PROGRAMS / "restante-ingest", **variables)
            configuration = CONFIGURATION.format(
                user="user root;" if os.getuid() == 0 else "",
                directory=directory,
                port=nginx_port,
                upstreams="\n".join(
                    UPSTREAM.format(
                        number=number, ingest=f"127.0.0.1:{ingest_port}", kept=KEPT_SECONDS[number % 2]
                    )
                    for number in range(len(plans))
                ),
                locations="\n".join(LOCATION.format(number=number) for number in range(len(plans))),
            )
            Path(f"{directory}/nginx.conf").write_text(configuration)
            nginx = start(log, "nginx", "-c", f"{directory}/nginx.conf", "-e", f"{directory}/error.log", "-g", "daemon off;")
            try:
                for port in (ingest_port, nginx_port):
                    self.until_somebody_listens(port, log)
                senders = [Sender(number, *plan, nginx_port) for number, plan in enumerate(plans)]
                for sender in senders:
                    sender.start()
                for sender in senders:
                    sender.join()
            finally:
                for program in (nginx, ingest):
                    program.stdin.close()
                    program.wait(PATIENCE_SECONDS)
            errors = Path(f"{directory}/error.log").read_text()

        sent = sum((1 + pauses) * deliveries for _, pauses, deliveries in plans)
        refused = [
            f"{status} after a pause of {sender.limit} s"
            for sender in senders
            for status in sender.answers
            if status != 204
        ]
        self.assertEqual(collections.Counter(refused), {}, errors[-2000:])
        self.assertEqual(sum(len(sender.answers) for sender in senders), sent)
        self.assertEqual(psql("select count(*) from restante.outbox"), str(sent))
        print(f"{sent} deliveries, and none was lost")

    def until_somebody_listens(self, port, log):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(f"nobody listens, and this was said:\n{log.read()}") from None
                time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
