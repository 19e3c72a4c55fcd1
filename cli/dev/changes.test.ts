/** What a change of a file is, whatever editors and version control do. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { onChange, sources } from './changes.ts';

const scratch = mkdtempSync(join(tmpdir(), 'dstack-changes-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test('files come, change, go and come back; what means nothing is not told; what was told in vain is told again', async () => {
  const folder = join(scratch, 'app');
  const put = (path: string, text: string) => {
    mkdirSync(join(folder, path, '..'), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  put('enclave/main.ts', '1');
  put('node_modules/x/index.ts', '1');
  // A folder that is its own.
  symlinkSync('..', join(folder, 'enclave/loop'));
  const told: string[] = [];
  let isRefusing = false;
  const close = onChange(folder, async (changed) => {
    told.push([...changed].sort().join(' '));
    if (isRefusing) throw new DstackError('SOLC_FAILED', 'as it does');
  });
  const next = async (what: string) => {
    await expect.poll(() => told.at(-1), { timeout: 30_000 }).toBe(what);
    told.length = 0;
  };
  try {
    put('enclave/main.ts', '22');
    await next('enclave');
    put('bids.ts', '1');
    await next('.');
    // As editors save: another file takes its name.
    put('enclave/main.ts~', '333');
    renameSync(join(folder, 'enclave/main.ts~'), join(folder, 'enclave/main.ts'));
    await next('enclave');
    rmSync(join(folder, 'enclave'), { recursive: true });
    await next('enclave');
    isRefusing = true;
    put('contracts/App.sol', '1');
    await next('contracts');
    isRefusing = false;
    put('enclave/main.ts', '1');
    await next('contracts enclave');
    for (const path of [
      'node_modules/x/index.ts',
      'test/a.test.ts',
      '.git/x.ts',
      'enclave/notes.md',
      'vendor/a.ts',
    ])
      put(path, '22');
    put('host/main.ts', '1');
    await next('host');
    // The folder itself goes, and nothing is thrown.
    rmSync(folder, { recursive: true });
    await next('. contracts enclave host');
  } finally {
    close();
  }
});

test('what changed while the app was still being started is told', async () => {
  const folder = join(scratch, 'starting');
  mkdirSync(join(folder, 'enclave'), { recursive: true });
  writeFileSync(join(folder, 'enclave/main.ts'), '1');
  const started = sources(folder);
  writeFileSync(join(folder, 'enclave/main.ts'), '22');
  const { promise, resolve } = Promise.withResolvers<ReadonlySet<string>>();
  const close = onChange(folder, async (changed) => resolve(changed), started);
  try {
    expect([...(await promise)]).toEqual(['enclave']);
  } finally {
    close();
  }
});
