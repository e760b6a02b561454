// graphile-worker as a queue: `fill COUNT` adds jobs, `work COUNT CONCURRENCY [--starts]` works them.

import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { Progress } from "./progress.js";

const connectionString = process.env.DATABASE_URL;
const [action, count, concurrency, option] = process.argv.slice(2);
const silent = new Logger(() => () => {});

if (action === "fill") {
  const utils = await makeWorkerUtils({ connectionString, logger: silent });
  await utils.migrate();
  for (let first = 0; first < Number(count); first += 1000) {
    const size = Math.min(1000, Number(count) - first);
    const jobs = Array.from({ length: size }, (_, n) => ({ identifier: "bench", payload: { id: String(first + n) } }));
    await utils.addJobs(jobs);
  }
  await utils.release();
} else {
  const starts = option === "--starts";
  const progress = new Progress(Number(count), starts);
  // Throughput wants a long local queue; a job that comes alone is started sooner without one.
  const worker = starts ? {} : { localQueue: { size: 500 }, completeJobBatchDelay: 0 };
  progress.begin();
  const runner = await run({
    connectionString,
    concurrency: Number(concurrency),
    maxPoolSize: 10,
    pollInterval: 1000,
    noHandleSignals: true,
    logger: silent,
    preset: { worker },
    taskList: {
      bench: (payload) => {
        progress.start(payload.id);
        progress.end();
      },
    },
  });
  console.log("working");
  process.on("SIGTERM", () => runner.stop().finally(() => process.exit(0)));
}
