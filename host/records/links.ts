/** What a new record stands on. */
import type { RecordIndex, Row } from './index.ts';
import { isTrusted } from './query.ts';

/** Of tips so many are looked at: the oldest, which nobody links to else, and the newest. */
const CONSIDERED = 64;

/**
 * Trusted records that nothing stands on yet, the lightest first: who links to them gives them weight, and ties the graph together. Where there are not
 * enough, the newest of the others. Nothing from later than the record itself, which could not stand on it.
 * @param time of the new record; milliseconds since 1970
 * @returns fewer than `count` only where the network has no more
 */
export function chooseLinks(index: RecordIndex, count: number, time: number, drift: number): string[] {
  const isFit = (row: Row): boolean => row.newest <= time + drift && isTrusted(index, row);
  // Nothing stands on a tip: its work is all of its weight.
  const tips = index
    .tips(CONSIDERED)
    .filter(isFit)
    .toSorted((a, b) => a.work - b.work || a.row - b.row);
  const chosen = new Set(tips.slice(0, count).map(({ id }) => id));
  if (chosen.size < count) {
    const others = [...index.latest(CONSIDERED).filter(isFit), index.rowAt(1)];
    for (const { id } of others) if (chosen.size < count) chosen.add(id);
  }
  return [...chosen];
}
