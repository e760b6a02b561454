"""Deliveries through an nginx that keeps its connections: whatever the pauses between them are, none is lost."""

import base64
import hashlib
import hmac
import http.client
import json
import os
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
# How long ingest keeps an idle connection: its default, unless told otherwise.
IDLE_SECONDS = os.environ.get("IDLE_SECONDS")
# How long nginx does: its default, and the other value that is common among proxies.
KEPT_SECONDS = (60, 75)
# The limits of nginx, of ingest, and of an ingest that is too impatient; and the pauses around each.
LIMITS_SECONDS = (5, 60, 75, 90)
AROUND_SECONDS = (-0.1, -0.02, 0, 0.02, 0.1)
BURSTS, SENDERS, DELIVERIES = 3, 17, 5
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
UPSTREAM = "upstream u{number} {{ server {ingest}; keepalive 64; keepalive_timeout {kept}s; }}"
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


class Lane(threading.Thread):
    """Bursts of deliveries through one upstream of nginx, with a pause between them."""

    def __init__(self, number, pause, port):
        super().__init__()
        self.number, self.pause, self.port = number, pause, port
        self.answers = []

    def run(self):
        for burst in range(BURSTS):
            if burst:
                time.sleep(self.pause)
            senders = [threading.Thread(target=self.send, args=(burst, n)) for n in range(SENDERS)]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()

    def send(self, burst, sender):
        nginx = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        for number in range(DELIVERIES):
            body, headers = delivery(f"whe_{self.number}_{burst}_{sender}_{number}")
            nginx.request("POST", f"/{self.number}", body, headers)
            answer = nginx.getresponse()
            answer.read()
            self.answers.append(answer.status)
        nginx.close()


class Proxy(unittest.TestCase):
    def test_no_delivery_is_lost_between_a_proxy_and_ingest_whatever_the_pauses_are(self):
        pauses = [limit + around for limit in LIMITS_SECONDS for around in AROUND_SECONDS]
        lanes = [(pause, kept) for pause in pauses for kept in KEPT_SECONDS]
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
                    UPSTREAM.format(number=number, ingest=f"127.0.0.1:{ingest_port}", kept=kept)
                    for number, (_, kept) in enumerate(lanes)
                ),
                locations="\n".join(LOCATION.format(number=number) for number in range(len(lanes))),
            )
            Path(f"{directory}/nginx.conf").write_text(configuration)
            nginx = start(log, "nginx", "-c", f"{directory}/nginx.conf", "-e", f"{directory}/error.log", "-g", "daemon off;")
            try:
                for port in (ingest_port, nginx_port):
                    self.until_somebody_listens(port, log)
                lanes = [Lane(number, pause, nginx_port) for number, (pause, _) in enumerate(lanes)]
                for lane in lanes:
                    lane.start()
                for lane in lanes:
                    lane.join()
            finally:
                for program in (nginx, ingest):
                    program.stdin.close()
                    program.wait(PATIENCE_SECONDS)
            errors = Path(f"{directory}/error.log").read_text()

        sent = BURSTS * SENDERS * DELIVERIES * len(lanes)
        refused = {
            f"{lane.pause:.2f} s": [status for status in lane.answers if status != 204]
            for lane in lanes
            if set(lane.answers) != {204}
        }
        self.assertEqual(refused, {}, errors)
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
