// pg-boss as a queue: `fill COUNT` inserts jobs, `work COUNT` works them with 10 workers that fetch 1000 at a time.

import PgBoss from "pg-boss";
import { Progress } from "./progress.js";

const [action, count] = process.argv.slice(2);
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: 10 });
boss.on("error", (error) => console.error(error));
await boss.start();

if (action === "fill") {
  await boss.createQueue("bench");
  for (let first = 0; first < Number(count); first += 1000) {
    const size = Math.min(1000, Number(count) - first);
    await boss.insert(Array.from({ length: size }, (_, n) => ({ name: "bench", data: { id: first + n } })));
  }
  await boss.stop({ graceful: false });
  process.exit(0);
} else {
  const progress = new Progress(Number(count), false);
  progress.begin();
  for (let worker = 0; worker < 10; worker++) {
    await boss.work("bench", { batchSize: 1000, pollingIntervalSeconds: 0.5 }, async (jobs) => {
      progress.end(jobs.length);
    });
  }
  process.on("SIGTERM", () => process.exit(0));
}
