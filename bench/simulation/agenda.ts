/** A heap of events by time. */
export class Agenda {
  readonly #times: number[] = [];
  readonly #items: number[] = [];

  get size(): number {
    return this.#times.length;
  }

  push(time: number, item: number): void {
    const [times, items] = [this.#times, this.#items];
    let at = times.length;
    times.push(time);
    items.push(item);
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (times[above]! <= time) break;
      times[at] = times[above]!;
      items[at] = items[above]!;
      at = above;
    }
    times[at] = time;
    items[at] = item;
  }

  pop(): [number, number] {
    const [times, items] = [this.#times, this.#items];
    const first: [number, number] = [times[0]!, items[0]!];
    const [time, item] = [times.pop()!, items.pop()!];
    const size = times.length;
    if (size === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= size) break;
      if (below + 1 < size && times[below + 1]! < times[below]!) below += 1;
      if (times[below]! >= time) break;
      times[at] = times[below]!;
      items[at] = items[below]!;
      at = below;
    }
    times[at] = time;
    items[at] = item;
    return first;
  }
}
