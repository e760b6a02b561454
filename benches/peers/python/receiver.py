"""The Flask receiver: verify, insert, answer. Each gunicorn worker holds one connection."""

import base64
import hashlib
import hmac
import json
import os
import time

import psycopg
from flask import Flask, request

KEY = base64.b64decode(os.environ["SIGNING_KEY"].removeprefix("whsec_"))
INSERT = """
    insert into event (id, type, created_at, payload) values (%s, %s, %s, %s)
    on conflict do nothing
"""

app = Flask(__name__)
connection = None


def is_verified(body):
    event_id = request.headers.get("webhook-id", "")
    sent_at = request.headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > 300:
        return False
    signed = f"{event_id}.{sent_at}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    signatures = request.headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


@app.post("/webhook")
def webhook():
    global connection
    body = request.get_data()
    if not is_verified(body):
        return "", 401
    event = json.loads(body)
    if connection is None:
        connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    values = (event["id"], event["data"]["type"], event["created_at"], body.decode())
    # Prepared from the first use on.
    connection.execute(INSERT, values, prepare=True)
    return "", 204
