"""Flask's receiver as gunicorn runs it: four workers, one request at a time each."""

import os

bind = f"127.0.0.1:{os.environ['PORT']}"
workers = 4
loglevel = "warning"
