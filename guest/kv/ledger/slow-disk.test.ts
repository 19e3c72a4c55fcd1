import { expect, test, vi } from 'vitest';
import { put } from '../../../lib/ledger/log.fixture.ts';
import { ListedRevisions, SimulatedDisk, startOn } from './ledger.fixture.ts';

/** Milliseconds in which only what hangs has not come. */
const PATIENCE = 60_000;

/** Each write takes longer than the pause between two batches. */
class SlowDisk extends SimulatedDisk {
  override async write(file: string, at: number, bytes: Uint8Array): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 40));
    await super.write(file, at, bytes);
  }
}

test('what comes while a slow disk is written is on the disk soon after, though nobody waits for it', async () => {
  const source = new ListedRevisions();
  const ledger = await startOn(new SlowDisk(), source);
  try {
    for (let n = 0; n < 5; n += 1) {
      source.push([put(`key-${n}`, 'value')]);
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    await vi.waitFor(() => expect(ledger.sizes).toEqual({ tree: 5, disk: 5 }), PATIENCE);
  } finally {
    await ledger.close();
  }
});
