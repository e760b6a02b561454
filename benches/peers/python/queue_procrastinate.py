"""procrastinate as a queue: `fill COUNT` defers jobs, `work COUNT CONCURRENCY` works them."""

import asyncio
import os
import sys
import time

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))
count = int(sys.argv[2])
ended = 0


@app.task(name="bench", queue="bench")
async def bench(number):
    global ended
    ended += 1
    if ended == count:
        print("handled", time.time() * 1000, flush=True)


async def fill():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for first in range(0, count, 1000):
            jobs = [{"number": number} for number in range(first, min(first + 1000, count))]
            await bench.batch_defer_async(*jobs)


async def work():
    async with app.open_async():
        print("begin", time.time() * 1000, flush=True)
        await app.run_worker_async(queues=["bench"], concurrency=int(sys.argv[3]), wait=True)


asyncio.run(fill() if sys.argv[1] == "fill" else work())
