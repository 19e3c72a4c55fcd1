import { expect, test } from 'vitest';
import { WIRE_LIMITS } from '../../host/records/wire/limits.ts';
import { costOfLiar } from './liars.ts';
import { LIES } from './lies.ts';

const SECONDS = 5;
/** Of the processor: to decrypt and to shake hands, which no limit but that of bytes and of connections counts. */
const BESIDE = 0.35;
/** What one peer may have in memory at most by docs/records.md: two backlogs, a message, the identities it offered; and what is not collected yet. */
const MEMORY_MIB = 96;

test('a peer costs no more than is said, however it lies, and nothing of the disk', async () => {
  const costs = await Promise.all(Object.keys(LIES).map((liar) => costOfLiar(liar, SECONDS, 1)));
  const { perSecond, burst } = WIRE_LIMITS.cpu;
  for (const { liar, cpuSeconds, seconds, memoryMiB, diskBytes } of costs) {
    const most = burst / 1000 + (perSecond / 1000 + BESIDE) * seconds;
    expect({ liar, isBounded: cpuSeconds <= most, cpuSeconds, seconds }).toMatchObject({ isBounded: true });
    expect({ liar, isBounded: memoryMiB <= MEMORY_MIB, memoryMiB }).toMatchObject({ isBounded: true });
    expect({ liar, diskBytes }).toEqual({ liar, diskBytes: 0 });
  }
}, 600_000);
