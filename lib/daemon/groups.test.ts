import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { groupId } from './groups.ts';

test('finds a group by its whole name; none where it or the file is missing', () => {
  const root = mkdtempSync(join(tmpdir(), 'dstack-groups-'));
  try {
    expect(groupId(root, 'dstack-tls')).toBeUndefined();
    mkdirSync(join(root, 'etc'));
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\ndstack-tls-old:x:7:\ndstack-tls:x:8:alice\n');
    expect(groupId(root, 'dstack-tls')).toBe(8);
    expect(groupId(root, 'dstack')).toBeUndefined();
  } finally {
    rmSync(root, { recursive: true });
  }
});
