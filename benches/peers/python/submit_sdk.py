"""The official SDK: submits the requests of a JSONL file as one batch."""

import json
import resource
import sys
import time

import anthropic

client = anthropic.Anthropic()
print("begin", time.time() * 1000, flush=True)
with open(sys.argv[1], encoding="utf-8") as file:
    requests = [json.loads(line) for line in file]
batch = client.messages.batches.create(requests=requests)
end = time.time() * 1000
print("peak_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
print("batch", batch.id, flush=True)
print("accepted", end, flush=True)
