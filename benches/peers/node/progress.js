// What a queue's program says: when it is about to claim its first job, and when its last handler ended.

export function now() {
  return performance.timeOrigin + performance.now();
}

export class Progress {
  constructor(count, starts) {
    this.count = count;
    this.starts = starts;
    this.ended = 0;
  }

  begin() {
    console.log(`begin ${now()}`);
  }

  start(id) {
    if (this.starts) console.log(`start ${id} ${now()}`);
  }

  end(count = 1) {
    const before = this.ended;
    this.ended += count;
    if (before < this.count && this.ended >= this.count) console.log(`handled ${now()}`);
  }
}
