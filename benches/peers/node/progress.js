// What a queue's program says of its handlers: when the first began, and when the last ended.

export function now() {
  return performance.timeOrigin + performance.now();
}

export class Progress {
  constructor(count, starts) {
    this.count = count;
    this.starts = starts;
    this.begun = 0;
    this.ended = 0;
  }

  begin(id) {
    if (++this.begun === 1) console.log(`first ${now()}`);
    if (this.starts) console.log(`start ${id} ${now()}`);
  }

  end(count = 1) {
    const before = this.ended;
    this.ended += count;
    if (before < this.count && this.ended >= this.count) console.log(`handled ${now()}`);
  }
}
