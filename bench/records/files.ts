/** What make.ts left, read again. */
import { closeSync, openSync, readSync } from 'node:fs';

export const MIB = 1 << 20;
/** As cli/dstack.mjs starts a node of records. */
export const AS_A_NODE = { flags: ['--max-semi-space-size=4'], env: { MALLOC_ARENA_MAX: '1' } } as const;
/** The records are of no day: no clock is early. */
export const now = () => Number.MAX_SAFE_INTEGER;
export const round = (value: number) => Number(value.toPrecision(3));

export function* recordsIn(path: string): Generator<Buffer> {
  const file = openSync(path, 'r');
  const head = Buffer.alloc(4);
  try {
    while (readSync(file, head) === 4) {
      const record = Buffer.alloc(head.readUInt32BE());
      readSync(file, record);
      yield record;
    }
  } finally {
    closeSync(file);
  }
}
