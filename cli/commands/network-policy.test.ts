/** What the owner's commands make of files, before any endpoint is asked: there is none here. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { writeTestImage } from '../../test/support/vm-process.ts';
import { readArguments } from '../command.ts';
import { allow } from './network-policy.ts';

const WORD = `0x${'5e'.repeat(32)}`;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'policy-test-'));
  writeFileSync(join(folder, 'owner.key'), '42'.repeat(32), { mode: 0o600 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The code that it ends with; CHAIN_UNREACHABLE is that of a value that was accepted. */
async function allowing(kind: string, value: string): Promise<string> {
  const words = ['--rpc', 'http://127.0.0.1:1', '--chain-id', '31337', '--contract', `0x${'c0'.repeat(20)}`];
  const args = readArguments(allow, [...words, '--owner-key', join(folder, 'owner.key'), kind, value]);
  return allow.run(args).then(() => 'done', codeOf);
}

test('the files beside image.json are measured: what it says of them is only compared', async () => {
  const image = writeTestImage(join(folder, 'image'));
  const file = join(image, 'image.json');
  const text = readFileSync(file, 'utf8');
  expect(await allowing('measurement', file)).toBe('CHAIN_UNREACHABLE');
  const [said] = /0x[0-9a-f]{64}/.exec(text)!;
  writeFileSync(file, text.replace(said, WORD));
  expect(await allowing('measurement', file)).toBe('MEASUREMENT_OTHER');
  writeFileSync(file, text);
  writeFileSync(join(image, 'vmlinuz'), 'another kernel');
  expect(await allowing('measurement', file)).toBe('MEASUREMENT_OTHER');
});
