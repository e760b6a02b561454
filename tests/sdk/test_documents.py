"""The receivers that docs/from-a-receiver.md begins with do what the page says of them."""

import contextlib
import datetime
import io
import json
import os
import shutil
import subprocess
import sys
import types
import unittest
from pathlib import Path

from standardwebhooks import Webhook

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "from-a-receiver.md").read_text()
# The key on the page.
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NODE_MODULES = ROOT / "target" / "sdk" / "node" / "node_modules"

# Express as far as the page uses it. The route is called with the body and the headers of standard input, twice.
EXPRESS = """
const Module = require("module");
const load = Module._load;
let route;
const stub = () => ({ post: (_path, _parser, handler) => { route = handler; } });
stub.raw = () => null;
Module._load = (name, ...rest) => (name === "express" ? stub : load(name, ...rest));
%s
const { body, headers } = JSON.parse(require("fs").readFileSync(0, "utf8"));
for (let time = 0; time < 2; time++) {
  route({ body, headers }, { status: (code) => ({ end: () => console.log(code) }) });
}
"""


def block(language):
    return PAGE.split(f"```{language}\n")[1].split("```")[0]


def delivery():
    """A signed event: its body and its headers."""
    body = json.dumps({"id": "whe_1", "type": "event", "data": {"type": "session.status_idled", "id": "sesn_01"}})
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    headers = {
        "webhook-id": "whe_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(KEY).sign("whe_1", now, body),
    }
    return body, headers


class Receivers(unittest.TestCase):
    """Each gets a delivery twice, and does its work once."""

    def test_flask(self):
        routes = {}
        body, headers = delivery()
        flask = types.ModuleType("flask")
        flask.request = types.SimpleNamespace(get_data=lambda: body.encode(), headers=headers)
        flask.Flask = lambda _name: types.SimpleNamespace(
            post=lambda path: lambda handler: routes.setdefault(path, handler)
        )
        sys.modules["flask"] = flask
        self.addCleanup(sys.modules.pop, "flask")
        exec(compile(block("python"), "docs/from-a-receiver.md", "exec"), {"__name__": "receiver"})

        with contextlib.redirect_stdout(io.StringIO()) as printed:
            answers = [routes["/webhooks/anthropic"]() for _ in range(2)]

        self.assertEqual(answers, [("", 204)] * 2)
        self.assertEqual(printed.getvalue(), "at rest: sesn_01\n")

    @unittest.skipUnless(shutil.which("node") and NODE_MODULES.exists(), "needs Node")
    def test_express(self):
        body, headers = delivery()
        ran = subprocess.run(
            ["node", "-e", EXPRESS % block("js")],
            env=os.environ | {"NODE_PATH": str(NODE_MODULES)},
            input=json.dumps({"body": body, "headers": headers}),
            capture_output=True,
            text=True,
            timeout=60,
        )

        self.assertEqual((ran.stdout, ran.stderr), ("at rest: sesn_01\n204\n204\n", ""))


if __name__ == "__main__":
    unittest.main()
