/**
 * Two real VMs, two relays, one chain: what only a VM can show. The boots are expensive under emulation, so everything
 * shares them, in the order written. The demo's own parts drive it: what is tested is what a user runs.
 */
import {
  copyFileSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  bootstrapFirst,
  buildApps,
  deployNetwork,
  joinSecond,
  owner,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { dstack, jsonLines, repository, stopAll } from '../../scripts/demo/processes.ts';
import { scanForPlaintext } from '../../scripts/demo/scan.ts';
import { fetchPage } from '../../scripts/demo/site.ts';
import { waitFor } from '../../scripts/demo/steps.ts';

const folder = join(repository, '.state/test');
let network: DemoNetwork;
let a: DemoHost;
let b: DemoHost;
let archives: string[];
let manifests: string[];

beforeAll(async () => {
  archives = await buildApps();
  network = await deployNetwork(folder);
  a = new DemoHost({ name: 'a', network, gasKey: relayKeys[0], peers: [], disk: true });
  manifests = await prepareNetwork(network, a, archives);
  await bootstrapFirst(network, a);
  b = new DemoHost({
    name: 'b',
    network,
    gasKey: relayKeys[1],
    peers: [a.gossipUrl],
    disk: true,
    quoteVersion: 5,
  });
  await joinSecond(network, a, b);
}, 900_000);

afterAll(stopAll, 60_000);

const agentInfo = async (host: DemoHost) => (await host.page('1')).page;

describe('two VMs', () => {
  test('serve the contract’s app under one TLS key, with one app key and a disk each', async () => {
    const [pageA, pageB] = [await agentInfo(a), await agentInfo(b)];
    expect(pageB.tlsKey).toBe(pageA.tlsKey);
    expect(pageB.fingerprint).toBe(pageA.fingerprint);
    expect(pageB.fingerprint).toMatch(/^[0-9a-f]{32}$/);
    expect(pageA.note).toContain('was here first');
    expect(pageB.note).toContain('was here first');
    expect(pageB.note).not.toBe(pageA.note);
  });

  test('have the network key that the contract has', async () => {
    const status = await dstack(owner(network), 'network', 'status');
    const key = /^network key\s+(0x[0-9a-fA-F]{40})$/m.exec(status)?.[1];
    expect((await a.status()).networkKey).toBe(key);
    expect((await b.status()).networkKey).toBe(key);
    expect(status).toMatch(/^onboarded\s+yes$/m);
  });

  test('were judged with collateral, one by a quote of version 4 and one of version 5; both relays have what an audit reads', () => {
    const recorded = (host: DemoHost, type: string) =>
      readdirSync(host.records)
        .filter((name) => name.startsWith(type))
        .map((name) => JSON.parse(readFileSync(join(host.records, name), 'utf8')))
        .filter(({ collateral }) => collateral !== undefined)
        .map(({ quote }) => Buffer.from(quote, 'hex').readUInt16LE(0));
    expect(recorded(a, 'bootstrap-')).toContain(4);
    expect(recorded(a, 'request-')).toContain(5);
    expect(recorded(b, 'request-')).toContain(5);
  });

  test('offer the host two ports, and no key on either', async () => {
    for (const path of ['/getkey/greeting', '/v1/tls-key', '/v1/app-key', '/v1/disk-key', '/info']) {
      const response = await fetch(`${b.nodeUrl}${path}`);
      expect(response.status, path).toBe(404);
    }
  });

  test('show the host neither what the container wrote nor any private key', async () => {
    const mark = (await agentInfo(b)).note.split(' ').at(-1)!;
    const files = [b.disk, b.consoleLog, join(folder, 'relay-b.log')];
    const { hits } = await scanForPlaintext(files, [
      mark,
      'The greeting app was here first',
      'PRIVATE KEY',
      '"kty"',
    ]);
    expect(hits).toEqual([]);
    expect(mark).toMatch(/^[0-9a-f]{32}$/);
  });
});

describe('a rollout whose archive the host spoiled', () => {
  const target = () => join(b.volume, 'archives', `${digest(archives[1]!)}.tar`);
  let since = 0;

  beforeAll(async () => {
    rmSync(target());
    since = b.console().length;
    await dstack(owner(network), 'app', 'rollout', 'greeting', manifests[1]!);
    await refusal('ARCHIVE_MISSING');
  }, 120_000);

  /** Waits for this refusal on B's console, after the last one. */
  async function refusal(code: string): Promise<void> {
    await waitFor(
      `B to refuse with ${code}`,
      async () => b.console().slice(since).includes(code) || undefined,
      150,
      () => JSON.stringify(jsonLines(b.console().slice(since)).at(-1)),
    );
    since = b.console().length;
  }

  test.each<[string, string, (path: string) => void]>([
    ['a symlink', 'ARCHIVE_NOT_REGULAR', (path) => symlinkSync(archives[1]!, path)],
    ['another image', 'ARCHIVE_DIGEST_MISMATCH', (path) => copyFileSync(archives[0]!, path)],
    [
      'cut short',
      'ARCHIVE_TRUNCATED',
      (path) => {
        copyFileSync(archives[1]!, path);
        truncateSync(path, 1_000_000);
      },
    ],
    [
      'changed in a layer',
      'ARCHIVE_LAYER_MISMATCH',
      (path) => {
        const bytes = readFileSync(archives[1]!);
        bytes[600_000] = bytes[600_000]! ^ 1;
        writeFileSync(path, bytes);
      },
    ],
  ])(
    '%s: refused by its code, the old container still serves',
    { timeout: 180_000 },
    async (_, code, spoil) => {
      rmSync(target(), { force: true });
      since = b.console().length;
      spoil(target());
      await refusal(code);
      expect((await fetchPage(b.tlsPort))?.version).toBe('1');
    },
  );

  test('put right, it is taken up by itself; a rollback is too', { timeout: 300_000 }, async () => {
    rmSync(target(), { force: true });
    copyFileSync(archives[1]!, target());
    await Promise.all([a.page('2'), b.page('2')]);
    await dstack(owner(network), 'app', 'rollback', 'greeting');
    await Promise.all([a.page('1'), b.page('1')]);
    expect((await fetchPage(b.tlsPort))?.version).toBe('1');
  });
});

/** The config digest by which an archive is named, from the manifest beside it. */
function digest(archive: string): string {
  const manifest = readFileSync(
    join(a.volume, 'manifests', `${manifests[archives.indexOf(archive)]!.slice(2)}.json`),
    'utf8',
  );
  return /sha256:([0-9a-f]{64})/.exec(manifest)![1]!;
}
