/**
 * An archive that was made again by records is as good as the one that it was made of: a relay keeps what a network's life left, another whose only carrier is
 * records comes when all is over, and audits over the two, and over the first by records, come to the same.
 */
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { AuditReport } from '../cli/audit/audit.ts';
import { Archive } from '../host/relay/archive.ts';
import { utf8 } from '../lib/protocol/encoding.ts';
import { type AnswerMessage, nodePaths, type RequestMessage } from '../lib/protocol/onboarding-messages.ts';
import { dstack } from './support/cli.ts';
import { freePort } from './support/free-port.ts';
import { eventually, startTestNetwork, type TestNetwork, type TestNode } from './support/network.ts';
import { RelayHost } from './support/relay.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-records-archive-'));
const [original, rebuilt] = ['first', 'second'].map((name) => join(folder, name, 'archive')) as [
  string,
  string,
];
const hosts: RelayHost[] = [];
let network: TestNetwork;
let recordsAddress: string;

beforeAll(async () => {
  network = await startTestNetwork();
  const first = await network.start({ role: 'bootstrap' });
  await network.allow(first);
  const archive = new Archive(original);
  archive.keepBootstrap(await network.bootstrap(first));
  archive.keepConfig(utf8(network.networkJson));
  await onboard(await network.start({ role: 'join' }), first, archive);
  const port = await freePort();
  const one = await start('first', first.url, { DSTACK_RECORDS_LISTEN: `127.0.0.1:${port}` });
  recordsAddress = (await one.status()).recordsAddress!;
  await start('second', 'http://127.0.0.1:1', { DSTACK_RECORDS_PEERS: recordsAddress });
});
afterAll(async () => {
  await Promise.all(hosts.map((host) => host.kill()));
  await network?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function onboard(node: TestNode, first: TestNode, archive: Archive): Promise<void> {
  await eventually(async () => (await node.status()).state === 'requesting', 'the node to ask');
  const request = await node.post<RequestMessage>(nodePaths.request);
  await network.register(request);
  const answer = await first.post<AnswerMessage>(nodePaths.onboard, request);
  await network.postOnboard(answer);
  archive.keep(request);
  archive.keep(answer);
}

async function start(name: string, nodeUrl: string, settings: Record<string, string>): Promise<RelayHost> {
  const host = await RelayHost.create({
    rpcUrl: network.anvil.url,
    domain: { chainId: network.domain.chainId, contract: network.domain.contract },
    nodeUrl,
    stateDir: join(folder, name),
    settings,
  });
  hosts.push(host);
  host.start();
  await host.serves();
  return host;
}

async function audit(archive: string): Promise<AuditReport> {
  const { stdout, stderr } = await dstack([
    ...['audit', network.contract, '--rpc', network.anvil.url, '--archive', archive],
    ...['--flavour', 'sim', '--depth', '0', '--json'],
  ]);
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as AuditReport;
}

/** What does not say when the audit was, or of which source. */
const said = ({ verdict, holders, findings, unanswered, unposted, apps }: AuditReport) => ({
  verdict,
  holders,
  findings,
  unanswered,
  unposted,
  apps,
});

const versions = (archive: string): string[] =>
  readdirSync(archive).filter((name) => !/^bootstrap-0x[0-9a-f]{40}\.json$/.test(name));

test('a relay that comes later has all of it, and an audit can’t tell its archive from the first one’s', async () => {
  await expect.poll(() => versions(rebuilt), { timeout: 60_000 }).toEqual(versions(original));
  const [before, after, asked] = await Promise.all([
    audit(original),
    audit(rebuilt),
    audit(`records://${recordsAddress}`),
  ]);
  expect(before.verdict).toBe('sound-with-warnings');
  expect(said(after)).toEqual(said(before));
  expect(said(asked)).toEqual(said(before));
  expect(asked.sources[0]?.faults).toEqual([]);

  // What was withheld of it is missed by name.
  const partly = join(folder, 'partly');
  cpSync(rebuilt, partly, { recursive: true, filter: (path) => !path.includes('/request-') });
  const cut = await audit(partly);
  expect(cut.verdict).toBe('unproven');
  expect(cut.findings.filter(({ severity }) => severity === 'gap').map(({ code }) => code)).toContain(
    'REQUEST_RECORD_MISSING',
  );
}, 240_000);
