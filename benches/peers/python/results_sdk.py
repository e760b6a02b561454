"""The official SDK: reads the results of a batch, and writes them by COPY in one transaction."""

import os
import resource
import sys
import time

import anthropic
import psycopg

# In a variable, because the client closes its connections when nobody holds it any more.
client = anthropic.Anthropic()
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    print("begin", time.time() * 1000, flush=True)
    with connection.cursor() as cursor, cursor.copy("copy result (custom_id, type, message) from stdin") as copy:
        for entry in client.messages.batches.results(sys.argv[1]):
            result = entry.result
            message = result.message.model_dump_json() if result.type == "succeeded" else None
            copy.write_row((entry.custom_id, result.type, message))
    connection.commit()
    print("peak_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
    print("stored", time.time() * 1000, flush=True)
