/** What commands print with `--json`: one object, of the form that docs/cli.md has; and why some print none. */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { appId, MEASUREMENT, TestNetwork } from '../contracts/fixture.ts';
import { Chain } from '../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../contracts/local-node.ts';
import { simulatedCase } from '../lib/attestation/testing.ts';
import { to0x } from '../lib/protocol/encoding.ts';
import { formatManifest, manifestHash } from '../lib/protocol/manifest.ts';
import { encodeRollout } from '../lib/protocol/network-contract.ts';
import { answers, described, withoutJson } from './answers.ts';
import { readArguments } from './command.ts';
import { allCommands } from './commands.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const root = join(import.meta.dirname, '..');
const commands = await allCommands();
const page = readFileSync(join(root, 'docs/cli.md'), 'utf8');

/** Rows of the table that has this head, as their cells. */
function rowsBelow(head: string): readonly (readonly string[])[] {
  const [, after = ''] = page.split(head);
  const lines = after.split('\n').slice(2);
  const end = lines.findIndex((line) => !line.startsWith('|'));
  return lines.slice(0, end).map((line) => line.split('|').map((cell) => cell.trim()));
}

const spansOf = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);
/** Names at the top of an object: those in brackets are below the one before. */
const topNames = (cell: string): string[] => spansOf(cell.replaceAll(/\([^()]*\)/g, ''));

test.each(commands.map((command) => [command.name, command] as const))(
  '%s has --json and one form for it, or a reason why not',
  (name, { options }) => {
    const known = [answers, described, withoutJson].filter((table) => Object.hasOwn(table, name));
    expect(known, name).toHaveLength(1);
    expect('json' in options, name).toBe(!Object.hasOwn(withoutJson, name));
  },
);

test('docs/cli.md has the form of each command, the page of those that have one, and the reasons', () => {
  const forms = new Map(
    rowsBelow('| command | the object |').flatMap(([, names = '', form = '']) =>
      spansOf(names).map((name) => [name, form] as const),
    ),
  );
  for (const [name, keys] of Object.entries(answers))
    expect(topNames(forms.get(name) ?? ''), name).toEqual(keys);
  for (const [name, place] of Object.entries(described))
    expect(forms.get(name), name).toContain(
      place === 'docs/cli.md' ? 'that people are shown' : place.split('/').at(-1),
    );
  expect(forms.size).toBe(Object.keys(answers).length + Object.keys(described).length);
  const reasons = new Map(
    rowsBelow('| command | why it has no `--json` |').map(([, name = '', why = '']) => [
      spansOf(name)[0],
      why,
    ]),
  );
  expect(Object.fromEntries(reasons)).toEqual(withoutJson);
});

describe('the objects', () => {
  const OWNER_KEY = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
  const ADDRESS = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';
  const WORD = `0x${'5e'.repeat(32)}`;
  let folder: string;
  let anvil: Anvil;
  let network: TestNetwork;
  let node: Server;
  const path = (name: string) => join(folder, name);
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dstack-answers-'));
    anvil = await startAnvil();
    const chain = new Chain(anvil.url);
    network = await TestNetwork.bootstrapped(chain, { delay: 1_000 });
    const manifest = formatManifest({
      version: 1,
      app: 'web',
      containers: [{ name: 'web', image: `sha256:${'ab'.repeat(32)}`, http: { port: 80 } }],
    } as never);
    writeFileSync(path('web.json'), manifest);
    writeFileSync(path('owner.key'), OWNER_KEY, { mode: 0o600 });
    writeFileSync(path('quote'), simulatedCase().quote);
    await network.asOwner(encodeRollout({ app: appId('web'), manifestHash: to0x(manifestHash(manifest)) }));
    node = createServer((_, reply) => {
      const apps = [{ app: 'web', state: 'serving', inForce: 'ab'.repeat(32), serving: 'ab'.repeat(32) }];
      reply.setHeader('content-type', 'application/json');
      reply.end(JSON.stringify({ apps, more: 0, rollouts: [] }));
    }).listen(0, '127.0.0.1');
    await once(node, 'listening');
    writeFileSync(
      path('host.env'),
      [
        `DSTACK_RPC_URL=${anvil.url}`,
        'DSTACK_CHAIN_ID=31337',
        `DSTACK_CONTRACT=${network.address}`,
        `DSTACK_NODE_URL=http://127.0.0.1:${(node.address() as AddressInfo).port}`,
        `DSTACK_GAS_KEY_FILE=${path('owner.key')}`,
        `DSTACK_STATE_DIR=${path('state')}`,
      ].join('\n'),
    );
  });
  afterAll(async () => {
    node?.close();
    await anvil?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const at = () => ['--rpc', anvil.url, '--chain-id', '31337', '--contract', network.address];
  const owned = () => [...at(), '--owner-key', path('owner.key'), '--dry-run'];
  const scenes: Readonly<Record<string, () => readonly string[]>> = {
    'network deploy': () => [
      ...['--rpc', anvil.url, '--chain-id', '31337', '--owner-key', path('owner.key'), '--dry-run'],
    ],
    'network config': () => [
      ...['--contract', network.address, '--chain-id', '31337', '--endpoint', 'https://rpc.example'],
      ...['--out', path('network.json')],
    ],
    'network allow': () => [...owned(), 'measurement', WORD],
    'network revoke': () => [...owned(), 'measurement', to0x(MEASUREMENT)],
    'network tcb': () => [...owned(), 'minimum', '20'],
    'network owner transfer': () => [...owned(), ADDRESS],
    'network delay': () => [...owned(), '2d'],
    'network status': at,
    'network list': at,
    'app secret list': () => ['web', '--volume', folder],
    'app diff': () => ['web', path('web.json'), '--against', path('web.json')],
    'app rollout': () => [...owned(), 'web', WORD],
    'app withdraw': () => [...owned(), 'web'],
    'app list': at,
    'app ps': () => ['--env-file', path('host.env'), '--volume', folder],
    'signer init': () => ['--config', path('signer.toml'), '--secret', path('signer.secret')],
    'vm check': () => ['--flavour', 'sim'],
    'image node': () => [],
    'quote show': () => [path('quote')],
  };

  test.each(Object.keys(scenes))('%s prints the one that is documented, and nothing else', async (name) => {
    const command = commands.find((one) => one.name === name)!;
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    const error = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      await command.run(readArguments(command, [...scenes[name]!(), '--json']));
    } finally {
      error.mockRestore();
    }
    const text = write.mock.calls.map(([part]) => String(part)).join('');
    write.mockRestore();
    process.exitCode = 0;
    const object: unknown = JSON.parse(text);
    const form: Readonly<Record<string, readonly string[]>> = answers;
    if (Object.hasOwn(form, name))
      expect(Object.keys(object as object).toSorted()).toEqual([...form[name]!].toSorted());
    else expect(Object.keys(object as object).length).toBeGreaterThan(0);
  });
});
