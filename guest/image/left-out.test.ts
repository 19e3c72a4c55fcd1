import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { daemons } from '../daemons.ts';
import { bundleDaemons } from './daemons.ts';

test('the bundle with dockerode starts, without what dockerode needs for SSH and for builds', async () => {
  const bundle = (await bundleDaemons(daemons.filter(({ name }) => name === 'kubernethes'))).get(
    'kubernethes.mjs',
  )!;
  const source = Buffer.from(bundle).toString('utf8');
  expect(source).toContain('/containers/create');
  expect(source).not.toContain('SSH-2.0-');
  expect(source.length).toBeLessThan(1_000_000);

  const folder = mkdtempSync(join(tmpdir(), 'dstack-bundle-'));
  try {
    writeFileSync(join(folder, 'kubernethes.mjs'), bundle);
    // Flags are read after everything was loaded, so this refusal shows that loading works.
    const run = spawnSync(process.execPath, [join(folder, 'kubernethes.mjs'), '--no-such-flag']);
    expect(run.stderr.toString()).toContain('ERR_PARSE_ARGS_UNKNOWN_OPTION');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
