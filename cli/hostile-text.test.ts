/** Texts that others wrote, through every command that prints them: only characters that can be seen reach the terminal. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { dstack } from '../test/support/cli.ts';
import { writeTestImage } from '../test/support/vm-process.ts';

/** Clears the screen, sets title and clipboard, goes up, turns the direction round, and begins a line that looks like ours. */
const HOSTILE =
  '\u001b[2J\u001b]0;x\u0007\u001b]52;c;eA==\u0007\u009b1A\u202e\u200b\u007f\r\nACCEPT  the quote is good\u2028';
/** What can stand in a file's name, where a slash and a zero can not. */
const NAME = HOSTILE.replaceAll('/', '');
const ADDRESS = `0x${'12'.repeat(20)}`;

vi.setConfig({ testTimeout: 120_000 });
const scratch = mkdtempSync(join(tmpdir(), 'hostile-text-'));
const place = (name: string) => join(scratch, name);
let url: string;
/** Answers everything: as an endpoint with an error, as a relay or a peer with a status or a list. */
const server = createServer((request, response) => {
  const error = { code: 3, message: HOSTILE, data: HOSTILE };
  const lists = {
    records: [`config-${HOSTILE}`],
    waitingFor: HOSTILE,
    gasAddress: HOSTILE,
    warnings: [HOSTILE],
  };
  const status = { ...lists, requests: [], transactions: [], peers: [{ peer: HOSTILE, reachable: false }] };
  const body = request.method === 'POST' ? { jsonrpc: '2.0', id: 1, error } : status;
  response.statusMessage = 'x';
  response.end(JSON.stringify({ ...body, code: HOSTILE, message: HOSTILE }));
});

/** A relay whose status has the right form, and the worst texts that fit into it. */
const relay = createServer((_, response) => {
  const trouble = {
    code: 'APP_UNHEALTHY',
    message: HOSTILE,
    manifest: 'ab'.repeat(32),
    attempts: 1,
    nextTry: 2,
    logs: { web: [HOSTILE, HOSTILE] },
  };
  const apps = { apps: [{ app: 'web', state: 'down', trouble }], more: 0, rollouts: [] };
  const status = { waitingFor: '', gasAddress: ADDRESS, requests: [], transactions: [], peers: [], apps };
  response.end(JSON.stringify(status));
});

beforeAll(async () => {
  for (const one of [server, relay])
    await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  writeFileSync(place('owner.key'), 'ab'.repeat(32), { mode: 0o600 });
  for (const name of [NAME, `${NAME}.json`, `${NAME}.tar`]) writeFileSync(place(name), HOSTILE);
  writeFileSync(place('field.json'), JSON.stringify({ [HOSTILE]: HOSTILE, version: HOSTILE }));
  writeFileSync(place('twice.json'), `{${JSON.stringify(HOSTILE)}:1,${JSON.stringify(HOSTILE)}:2}`);
  writeTestImage(place('image-sim'));
  mkdirSync(place('image-bad'));
  writeFileSync(
    place('image-bad/image.json'),
    JSON.stringify({ version: 1, flavour: HOSTILE, [HOSTILE]: 1 }),
  );
  const environment = (admin: string) =>
    Object.entries({
      DSTACK_RPC_URL: url,
      DSTACK_CHAIN_ID: '31337',
      DSTACK_CONTRACT: ADDRESS,
      DSTACK_GAS_KEY_FILE: place('owner.key'),
      DSTACK_STATE_DIR: place('state'),
      DSTACK_ADMIN_LISTEN: admin,
      DSTACK_NODE_URL: url,
      DSTACK_VM_VOLUME_DIR: place('volume'),
      DSTACK_VM_IMAGE_DIR: place('image-bad'),
      DSTACK_VM_STATE_DIR: place('vm'),
      DSTACK_VM_PLATFORM_FILE: place('platform.json'),
    })
      .map((pair) => `${pair.join('=')}\n`)
      .join('');
  writeFileSync(place('host.env'), environment(new URL(url).host));
  writeFileSync(place('relay.env'), environment(`127.0.0.1:${(relay.address() as AddressInfo).port}`));
});
afterAll(() => {
  for (const one of [server, relay]) {
    one.closeAllConnections();
    one.close();
  }
  rmSync(scratch, { recursive: true, force: true });
});

const chain = () => ['--rpc', url, '--chain-id', '31337'];
const owner = () => [...chain(), '--contract', ADDRESS, '--owner-key', place('owner.key')];

test.each<[string, () => string[]]>([
  ['a word that is no command', () => [HOSTILE]],
  ['an option', () => ['network', 'status', `--${HOSTILE}`]],
  ['an endpoint, to who deploys', () => ['network', 'deploy', ...chain(), '--owner-key', place('owner.key')]],
  ['an endpoint, to who asks for the status', () => ['network', 'status', ...chain(), '--contract', ADDRESS]],
  ['an endpoint, to who revokes', () => ['network', 'revoke', 'platform', 'any', ...owner()]],
  ['an endpoint, to who rolls out', () => ['app', 'rollout', 'web', '5e'.repeat(32), ...owner()]],
  ["an app's name", () => ['app', 'withdraw', HOSTILE, ...owner()]],
  ['a kind', () => ['network', 'allow', HOSTILE, 'x', ...owner()]],
  [
    "a file's name and content, as a config",
    () => ['network', 'allow', 'config', place(`${NAME}.json`), ...owner()],
  ],
  ["a file's name, as a measurement", () => ['network', 'allow', 'measurement', place(NAME), ...owner()]],
  ["a config's fields", () => ['network', 'allow', 'config', place('field.json'), ...owner()]],
  [
    "a config's field that is there twice",
    () => ['network', 'allow', 'config', place('twice.json'), ...owner()],
  ],
  ['a bootstrap package', () => ['network', 'bootstrap', place('field.json'), ...owner()]],
  ['a value of the TCB policy', () => ['network', 'tcb', 'statuses', `UpToDate,${HOSTILE}`, ...owner()]],
  ["an archive's name", () => ['app', 'pack', 'web', place(`${NAME}.tar`), '--out', place('out')]],
  ["a quote's name", () => ['quote', 'verify', place(NAME)]],
  ['a quote that is not there', () => ['quote', 'show', place(`${NAME}none`)]],
  ['a time', () => ['quote', 'verify', place(NAME), '--at', HOSTILE]],
  ["a relay, to who asks for a node's status", () => ['node', 'status', '--env-file', place('host.env')]],
  [
    'an endpoint and a node, to who asks how apps stand',
    () => ['app', 'status', '--env-file', place('host.env')],
  ],
  ['an app, to who reads its log', () => ['app', 'logs', 'web', '--env-file', place('relay.env')]],
  ['an image, to who joins', () => ['node', 'join', '--env-file', place('host.env')]],
  ["a settings file's name", () => ['relay', 'run', '--env-file', place(`${NAME}.json`)]],
  ['an endpoint and records, to who audits', () => ['audit', ADDRESS, '--rpc', url, '--archive', url]],
  ["an image's folder", () => ['image', 'measure', '--image', place(NAME)]],
  [
    "an image's command line",
    () => [
      'image',
      'measure',
      '--image',
      place('image-sim'),
      '--kernel',
      place(NAME),
      '--command-line',
      HOSTILE,
    ],
  ],
])('%s', async (_, args) => {
  const { stdout, stderr } = await dstack(args());
  const printed = stdout + stderr;
  expect(printed.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
  expect(printed).not.toMatch(/^\s*ACCEPT/m);
  if (args()[1] === 'logs') expect(printed).toContain('web | \\u001b[2J');
});
