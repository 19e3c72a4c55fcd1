import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openCheckpoint, signCheckpoint } from '../../../lib/ledger/checkpoint.ts';
import { earlierLogs, nameAfter, readName, signerOf, writeName } from './log.ts';

test('whatever was restored again and again can be read again, and what could not is refused before it is written', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-log-'));
  try {
    const secret = new Uint8Array(32).fill(1);
    const head = { size: 1, root: new Uint8Array(32) };
    let name = readName(folder);
    for (let times = 1; times <= 16; times += 1) {
      name = nameAfter(name, new Uint8Array(16).fill(times), { ...head, size: times });
      writeName(folder, name);
      expect(readName(folder)).toEqual(name);
      const signer = signerOf(secret, name);
      const continues = earlierLogs(secret, name);
      const signed = signCheckpoint({ ...head, origin: signer.name, time: 1, continues }, [signer]);
      expect(openCheckpoint(signed, signer.name, [signer]).continues).toHaveLength(times);
    }
    const id = new Uint8Array(16).fill(17);
    expect(() => nameAfter(name, id, head)).toThrow(/continued 16 times/);
    // One that has nothing continues nothing.
    expect(nameAfter(name, id, { ...head, size: 0 }).earlier).toEqual(name.earlier);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
