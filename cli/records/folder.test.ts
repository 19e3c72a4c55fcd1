/** What `npx dstack records` knows is changed by one command after the other. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { takeFolder } from '../../lib/daemon/sole-holder.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { startDstack } from '../../test/support/cli.ts';
import { changeClient, clientOf, folderOf } from './folder.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-client-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

test('commands at once lose nothing of each other', async () => {
  const path = join(folder, 'me');
  const urls = Array.from({ length: 8 }, (_, n) => `http://127.0.0.1:${9_001 + n}`);
  const runs = urls.map((url) => startDstack(['records', 'url', 'add', url, '--path', path]).ended);
  for (const { code } of await Promise.all(runs)) expect(code).toBe(0);
  expect(clientOf(path).urls.toSorted()).toEqual(urls);
});

test('the folder is the user’s, root’s, or the one that is named', () => {
  const named = { optional: () => join(folder, 'own') };
  const unnamed = { optional: () => undefined };
  expect(folderOf(named)).toBe(join(folder, 'own'));
  const user = vi.spyOn(process, 'geteuid');
  onTestFinished(() => user.mockRestore());
  user.mockReturnValue(1_000);
  expect(folderOf(unnamed)).toBe(join(homedir(), '.dstack/records'));
  user.mockReturnValue(0);
  expect(folderOf(unnamed)).toBe('/var/lib/dstack/records');
});

test('a change waits for the one that is under way, and goes by what it left', async () => {
  const network = '11'.repeat(32);
  const release = await takeFolder(folder, 'records-client');
  const mine = changeClient(folder, (client) => ({ ...client, urls: [...client.urls, 'http://b'] }));
  const other = { version: 1, urls: ['http://a'], oracles: [], network: parseHex(network) };
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(clientOf(folder).urls).toEqual([]);
  writeFileSync(join(folder, 'client.json'), JSON.stringify(other));
  release!();
  expect(await mine).toEqual({ ...other, urls: ['http://a', 'http://b'] });
});

test('a change that is refused leaves all as it is, and the next one is made', async () => {
  const before = readFileSync(join(folder, 'client.json'), 'utf8');
  const refused = changeClient(folder, () => {
    throw new Error('no');
  });
  await expect(refused).rejects.toThrow('no');
  expect(readFileSync(join(folder, 'client.json'), 'utf8')).toBe(before);
  expect((await changeClient(folder, (client) => ({ ...client, urls: [] }))).urls).toEqual([]);
});
