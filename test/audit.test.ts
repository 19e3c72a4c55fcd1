/**
 * `npx dstack audit` of a network with a history: a first node and three that were onboarded, one of them with a measurement
 * that was revoked since; and of histories and public files that were tampered with.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AuditReport } from '../cli/audit/audit.ts';
import { Archive } from '../host/relay/archive.ts';
import { to0x, utf8 } from '../lib/protocol/encoding.ts';
import { appId } from '../lib/protocol/manifest.ts';
import { encodeRevokeMeasurement, encodeRollout, networkTopics } from '../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  nodePaths,
  type RequestMessage,
  requestOf,
} from '../lib/protocol/onboarding-messages.ts';
import { dstack } from './support/cli.ts';
import { type Lie, type LyingRpc, startLyingRpc } from './support/lying-rpc.ts';
import { eventually, startTestNetwork, type TestNetwork, type TestNode } from './support/network.ts';

let network: TestNetwork;
let folder: string;
let first: TestNode;
let revoked: TestNode;
let onboarded: { request: RequestMessage; answer: AnswerMessage }[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-audit-'));
  const archive = new Archive(folder);
  network = await startTestNetwork();
  first = await network.start({ role: 'bootstrap' });
  await network.allow(first);
  archive.keepBootstrap(await network.bootstrap(first));
  archive.keepConfig(utf8(network.networkJson));
  const join3 = async (node: TestNode) => {
    await eventually(async () => (await node.status()).state === 'requesting', 'the node to ask');
    const request = await node.post<RequestMessage>(nodePaths.request);
    await network.register(request);
    const answer = await first.post<AnswerMessage>(nodePaths.onboard, request);
    await network.postOnboard(answer);
    archive.keep(request);
    archive.keep(answer);
    return { request, answer };
  };
  onboarded = [await join3(await network.start({ role: 'join' }))];
  revoked = await network.start({ role: 'join', image: 'an old image' });
  await network.allow(revoked);
  onboarded.push(await join3(revoked));
  await network.send(encodeRollout({ app: to0x(appId('greeting')), manifestHash: `0x${'5a'.repeat(32)}` }));
  await network.send(encodeRevokeMeasurement({ measurement: to0x(revoked.measurement) }));
  onboarded.push(await join3(await network.start({ role: 'join' })));
});
afterAll(async () => {
  await network?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs the command; what it said and how it ended. */
async function auditWith(
  options: { rpc?: string[]; records?: string; flavour?: string; extra?: string[] } = {},
): Promise<{ code: number | null; report: AuditReport; stderr: string }> {
  const { rpc = [network.anvil.url], records = folder, flavour = 'sim', extra = [] } = options;
  const outcome = await dstack([
    'audit',
    network.contract,
    ...rpc.flatMap((url) => ['--rpc', url]),
    ...['--archive', records, '--flavour', flavour, '--depth', '0', '--json', ...extra],
  ]);
  const report = outcome.stdout === '' ? undefined : JSON.parse(outcome.stdout);
  return { code: outcome.code, report: report as AuditReport, stderr: outcome.stderr };
}
const codes = (report: AuditReport, severity: string) =>
  report.findings.filter((finding) => finding.severity === severity).map(({ code }) => code);

describe('a network with three onboardings', () => {
  test('is replayed: every quote verified, and the holder whose measurement was revoked since is named', async () => {
    const { code, report } = await auditWith();
    expect(codes(report, 'failure')).toEqual([]);
    expect(codes(report, 'gap')).toEqual([]);
    expect(report.verdict).toBe('sound-with-warnings');
    expect(code).toBe(0);
    expect(report.holders.map(({ role, proof }) => `${role} ${proof.is}`)).toEqual([
      'bootstrap verified',
      'onboarded verified',
      'onboarded verified',
      'onboarded verified',
    ]);
    expect(report.holders.map(({ standing }) => standing.measurement?.is)).toEqual([
      'allowed',
      'allowed',
      'revoked',
      'allowed',
    ]);
    const finding = report.findings.find((found) => found.code === 'HOLDER_MEASUREMENT_REVOKED');
    expect(finding?.where).toBe(`onboarded node ${onboarded[1]!.request.node}`);
    expect(codes(report, 'warning')).toEqual(expect.arrayContaining(['NOT_PRODUCTION', 'NO_DELAY']));
    expect(report.apps).toEqual([{ app: 'greeting', manifest: `0x${'5a'.repeat(32)}` }]);
    const steps = report.holders[1]!.proof.is === 'verified' ? report.holders[1]!.proof.steps : [];
    expect(steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['rtmr3', 'report-data', 'measurement']),
    );
  });

  test('is told to a person too', async () => {
    const outcome = await dstack([
      'audit',
      network.contract,
      '--rpc',
      network.anvil.url,
      '--archive',
      folder,
      '--flavour',
      'sim',
      '--depth',
      '0',
    ]);
    expect(outcome.stdout).toMatch(/who could hold the secret of epoch 1 today/);
    expect(outcome.stdout).toMatch(new RegExp(`${onboarded[1]!.request.node}.*evidence verified`));
    expect(outcome.stdout).toContain('(REVOKED at ');
    const { hash } = (await network.rpc.getBlock('latest'))!;
    expect(outcome.stdout.trim().split('\n').at(-1)).toMatch(
      new RegExp(
        `^verdict  sound-with-warnings, as of block \\d+ \\(${hash}\\), which was \\d+ s old when this machine's clock said 20`,
      ),
    );
    expect(outcome.code).toBe(0);
  });

  test('judged as production, simulated evidence is refused', async () => {
    const { code, report } = await auditWith({ flavour: 'production' });
    expect(report.verdict).toBe('failed');
    expect(codes(report, 'failure')).toContain('PCK_CHAIN_ROOT');
    expect(code).toBe(1);
  });
});

describe('a history that endpoints end too early', () => {
  const proxies: LyingRpc[] = [];
  beforeAll(async () => {
    for (let i = 0; i < 3; i += 1) proxies.push(await startLyingRpc(network.anvil.url));
  });
  afterAll(() => {
    for (const proxy of proxies) proxy.stop();
  });
  const urls = () => proxies.map(({ url }) => url);
  /** The header of the block that many before the newest. */
  const headerBefore = async (blocks: number) => {
    const number = (await network.rpc.getBlockNumber()) - blocks;
    return network.rpc.send('eth_getBlockByNumber', [`0x${number.toString(16)}`, false]);
  };

  test.each([
    ['1 of 2', 2, [1]],
    ['the first of 3', 3, [0]],
    ['the second of 3', 3, [1]],
    ['the last of 3', 3, [2]],
    ['2 of 3', 3, [0, 2]],
  ])('by %s: refused, with who says what', async (_, count, liars) => {
    const header = await headerBefore(3);
    for (const [at, proxy] of proxies.entries()) {
      proxy.lie = (method, reply, [block]) =>
        liars.includes(at) && method === 'eth_getBlockByNumber' && block === 'latest'
          ? { result: header }
          : reply;
    }
    const { code, report, stderr } = await auditWith({
      rpc: urls().slice(0, count),
      extra: ['--wait', '1'],
    });
    expect(report).toBeUndefined();
    expect(stderr).toContain('AUDIT_HEADS_APART');
    expect(stderr).toContain(new URL(proxies[liars[0]!]!.url).host);
    expect(code).toBe(1);
  });

  test('by all of them: the report says as of which block it is', async () => {
    const header = await headerBefore(1);
    for (const proxy of proxies) {
      proxy.lie = (method, reply, [block]) =>
        method === 'eth_getBlockByNumber' && block === 'latest' ? { result: header } : reply;
    }
    const { report } = await auditWith({ rpc: urls() });
    expect(report.head).toMatchObject({
      number: Number(header.number),
      hash: header.hash,
      chosen: false,
      endpoints: 3,
    });
    expect(report.head.age).toBe(report.head.seenAt - Number(header.timestamp));
  });

  test('and long ago: failed, unless the auditor named that block', async () => {
    const header = await headerBefore(0);
    const timestamp = `0x${(Math.floor(Date.now() / 1000) - 7_200).toString(16)}`;
    for (const proxy of proxies) {
      proxy.lie = (method, reply, [block]) =>
        method === 'eth_getBlockByNumber' && ['latest', header.number].includes(String(block))
          ? { result: { ...header, timestamp } }
          : reply;
    }
    const old = await auditWith({ rpc: urls() });
    expect(codes(old.report, 'failure')).toContain('HEAD_OLD');
    expect(old.report.verdict).toBe('failed');
    const named = await auditWith({ rpc: urls(), extra: ['--at', String(Number(header.number))] });
    expect(codes(named.report, 'failure')).not.toContain('HEAD_OLD');
    expect(codes(named.report, 'warning')).toContain('HEAD_CHOSEN');
    expect(named.report.head).toMatchObject({ number: Number(header.number), chosen: true });
  });

  test("or to come: an age that can't be said is not passed over", async () => {
    const header = await headerBefore(0);
    const timestamp = `0x${(Math.floor(Date.now() / 1000) + 7_200).toString(16)}`;
    for (const proxy of proxies) {
      proxy.lie = (method, reply, [block]) =>
        method === 'eth_getBlockByNumber' && ['latest', header.number].includes(String(block))
          ? { result: { ...header, timestamp } }
          : reply;
    }
    const { code, report } = await auditWith({ rpc: urls() });
    expect(codes(report, 'gap')).toContain('HEAD_AFTER_CLOCK');
    expect(code).toBe(1);
  });
});

describe('public files that were tampered with', () => {
  /** A copy of the public files with one kind changed. */
  async function auditChanged(prefix: string, change: (text: string) => string | undefined) {
    const copy = mkdtempSync(join(tmpdir(), 'dstack-audit-'));
    try {
      cpSync(folder, copy, { recursive: true });
      const names = readdirSync(copy).filter((name) => name.startsWith(prefix));
      expect(names.length).toBeGreaterThan(0);
      for (const name of names) {
        const text = change(readFileSync(join(copy, name), 'utf8'));
        if (text === undefined) rmSync(join(copy, name));
        else writeFileSync(join(copy, name), text);
      }
      return await auditWith({ records: copy });
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  }
  const edit = (change: (message: Record<string, string>) => void) => (text: string) => {
    const message = JSON.parse(text);
    change(message);
    return JSON.stringify(message);
  };
  const flipped = (hex: string, at: number) => {
    const bytes = Buffer.from(hex, 'hex');
    bytes[at] = bytes[at]! ^ 1;
    return bytes.toString('hex');
  };

  test.each<[string, string, (text: string) => string | undefined, string, string, string]>([
    ['a request withheld', 'request-', () => undefined, 'gap', 'REQUEST_RECORD_MISSING', 'unproven'],
    [
      'a bootstrap package withheld',
      'bootstrap-',
      () => undefined,
      'gap',
      'BOOTSTRAP_RECORD_MISSING',
      'unproven',
    ],
    ['network.json withheld', 'config-', () => undefined, 'gap', 'CONFIG_RECORD_MISSING', 'unproven'],
    [
      'an answer withheld',
      'answer-',
      () => undefined,
      'warning',
      'ANSWER_RECORD_MISSING',
      'sound-with-warnings',
    ],
    [
      "a byte of a request's quote",
      'request-',
      edit((message) => {
        message.quote = flipped(message.quote!, 300);
      }),
      'failure',
      'QUOTE_SIGNATURE',
      'failed',
    ],
    [
      "a request for another node: its hash is no longer the chain's",
      'request-',
      edit((message) => {
        message.node = `0x${'11'.repeat(20)}`;
      }),
      'gap',
      'REQUEST_RECORD_MISSING',
      'unproven',
    ],
    [
      'an answer that names other sealed bytes',
      'answer-',
      edit((message) => {
        message.answerHash = flipped(message.answerHash!, 0);
      }),
      'failure',
      'RECORD_CONTRADICTS_CHAIN',
      'failed',
    ],
    [
      'a byte of the bootstrap quote',
      'bootstrap-',
      edit((message) => {
        message.quote = flipped(message.quote!, 300);
      }),
      'failure',
      'QUOTE_SIGNATURE',
      'failed',
    ],
    [
      'a bootstrap package of another measurement',
      'bootstrap-',
      edit((message) => {
        message.measurement = 'ab'.repeat(32);
      }),
      'failure',
      'RECORD_SIGNATURE',
      'failed',
    ],
    ['what is no record', 'request-', () => '{', 'gap', 'REQUEST_RECORD_MISSING', 'unproven'],
  ])('%s', async (_, prefix, change, severity, code, verdict) => {
    const outcome = await auditChanged(prefix, change);
    expect(codes(outcome.report, severity)).toContain(code);
    expect(outcome.report.verdict).toBe(verdict);
    expect(outcome.code).toBe(verdict === 'sound-with-warnings' ? 0 : 1);
  });

  test('a spoiled copy does not hide a good one', async () => {
    const spoiled = mkdtempSync(join(tmpdir(), 'dstack-audit-'));
    mkdirSync(spoiled, { recursive: true });
    for (const name of readdirSync(folder).filter((found) => found.startsWith('request-'))) {
      const message = JSON.parse(readFileSync(join(folder, name), 'utf8'));
      writeFileSync(join(spoiled, name), JSON.stringify({ ...message, quote: flipped(message.quote, 700) }));
    }
    const { report } = await auditWith({ records: spoiled, extra: ['--archive', folder] });
    rmSync(spoiled, { recursive: true, force: true });
    expect(report.verdict).toBe('sound-with-warnings');
  });
});

describe('a history that an endpoint tampers with', () => {
  type Log = { topics: string[]; data: string };
  /** Audits through an endpoint that changes the list of logs. */
  async function auditLied(change: (logs: Log[]) => Log[], others: string[] = []) {
    const rpc = await startLyingRpc(network.anvil.url);
    const lie: Lie = (method, reply) =>
      method === 'eth_getLogs' ? { result: change(reply.result as Log[]) } : reply;
    rpc.lie = lie;
    try {
      return await auditWith({ rpc: [rpc.url, ...others] });
    } finally {
      rpc.stop();
    }
  }
  const lastOf = (logs: Log[], topic: string) => logs.findLast(({ topics }) => topics[0] === topic)!;
  const without = (topic: string) => (logs: Log[]) => logs.filter((log) => log !== lastOf(logs, topic));
  /** Leaves out the onboarding of one request, and its registration too. */
  const hide = (logs: Log[]) => {
    const hash = to0x(requestOf(onboarded[1]!.request).hash);
    return logs.filter(({ topics }) => topics[1] !== hash);
  };

  test.each<[string, (logs: Log[]) => Log[], string]>([
    ['an onboarding left out', without(networkTopics.Onboarded), 'HIDDEN_ONBOARDING'],
    ['an onboarding and its registration left out', hide, 'HIDDEN_ONBOARDING'],
    ['the registration left out', without(networkTopics.Registered), 'HISTORY_BROKEN'],
    ['the revocation left out', without(networkTopics.MeasurementRevoked), 'HISTORY_INCOMPLETE'],
    ['the allowance left out', without(networkTopics.MeasurementAllowed), 'HISTORY_BROKEN'],
    ['the bootstrap left out', without(networkTopics.Bootstrapped), 'HISTORY_BROKEN'],
    ['a rollout left out', without(networkTopics.RolledOut), 'HISTORY_INCOMPLETE'],
    [
      'another measurement in an onboarding',
      (logs) =>
        logs.map((log) =>
          log === lastOf(logs, networkTopics.Onboarded)
            ? { ...log, data: to0x(revoked.measurement) + log.data.slice(66) }
            : log,
        ),
      'HISTORY_BROKEN',
    ],
  ])('%s', async (_, change, code) => {
    const { code: exit, report } = await auditLied(change);
    expect(codes(report, 'failure')).toContain(code);
    expect(report.verdict).toBe('failed');
    expect(exit).toBe(1);
  });

  test('with a second endpoint, the lie itself is seen', async () => {
    const { code, stderr } = await auditLied(without(networkTopics.Onboarded), [network.anvil.url]);
    expect(stderr).toContain('CHAIN_DISAGREES');
    expect(code).toBe(1);
  });

  test('read from after the deployment: what came before is not taken on trust', async () => {
    const { report } = await auditWith({ extra: ['--from', '3'] });
    expect(codes(report, 'gap')).toContain('CONTRACT_CODE_UNPROVEN');
    expect(report.verdict).toBe('failed');
  });

  test('no such contract', async () => {
    const outcome = await dstack([
      'audit',
      `0x${'11'.repeat(20)}`,
      '--rpc',
      network.anvil.url,
      '--depth',
      '0',
    ]);
    expect(outcome.stderr).toContain('AUDIT_NO_HISTORY');
    expect(outcome.code).toBe(1);
  });
});

describe('an app whose name would rewrite the terminal', () => {
  test('is shown with its bytes as text, and the verdict stands', async () => {
    const name = Buffer.alloc(32);
    name.write('\u001b[2K\u001b[0mx\nverdict  sound\u009b1A');
    const rpc = await startLyingRpc(network.anvil.url);
    rpc.lie = (method, reply) =>
      method === 'eth_getLogs'
        ? {
            result: (reply.result as { topics: string[] }[]).map((log) =>
              log.topics[0] === networkTopics.RolledOut
                ? { ...log, topics: [log.topics[0], `0x${name.toString('hex')}`] }
                : log,
            ),
          }
        : reply;
    const options = ['--archive', folder, '--flavour', 'sim', '--depth', '0'];
    const outcome = await dstack(['audit', network.contract, '--rpc', rpc.url, ...options]);
    rpc.stop();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what must not be there
    expect(outcome.stdout.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    expect(outcome.stdout).toContain('\\u001b[2K');
    expect(outcome.stdout.match(/^verdict/gm)).toHaveLength(1);
    expect(outcome.stdout).toMatch(/^FAILURE +HISTORY_BROKEN .*is no name$/m);
    expect(outcome.stdout).toMatch(/^verdict {2}failed/m);
    expect(outcome.code).toBe(1);
  });
});

describe('an answer that was signed and not posted', () => {
  let copy: string;
  let request: RequestMessage;
  let hash: string;
  beforeAll(async () => {
    copy = mkdtempSync(join(tmpdir(), 'dstack-audit-'));
    cpSync(folder, copy, { recursive: true });
    const node = await network.start({ role: 'join' });
    await eventually(async () => (await node.status()).state === 'requesting', 'the node to ask');
    request = await node.post<RequestMessage>(nodePaths.request);
    hash = Buffer.from(requestOf(request).hash).toString('hex');
    await network.register(request);
    const archive = new Archive(copy);
    archive.keep(request);
    archive.keep(await first.post<AnswerMessage>(nodePaths.onboard, request));
  });
  afterAll(() => rmSync(copy, { recursive: true, force: true }));

  test('and a registration that nobody answered are both listed', async () => {
    const { report, code } = await auditWith({ records: copy });
    expect(report.unanswered).toMatchObject([{ requestHash: hash, node: request.node, standing: 'open' }]);
    expect(report.unposted).toMatchObject([{ requestHash: hash, standing: 'open', final: false }]);
    expect(codes(report, 'warning')).toEqual(
      expect.arrayContaining(['REGISTRATIONS_UNANSWERED', 'ANSWER_NOT_POSTED']),
    );
    expect(report.verdict).toBe('sound-with-warnings');
    expect(code).toBe(0);
  });

  test('without the record of the answer, the registration alone', async () => {
    const { report } = await auditWith();
    expect(report.unanswered).toHaveLength(1);
    expect(report.unposted).toEqual([]);
  });

  test('and that never can be posted any more: what it would have given was not given out', async () => {
    await network.rpc.send('anvil_mine', ['0x190']);
    const { report } = await auditWith({ records: copy });
    expect(report.unanswered).toMatchObject([{ standing: 'expired' }]);
    expect(report.unposted).toMatchObject([{ standing: 'expired', final: true, sealedFound: false }]);
    expect(codes(report, 'failure')).toEqual([]);
    expect(codes(report, 'warning')).toContain('ANSWER_NOT_POSTED');
  });

  test('answers that no key of the network signed say nothing', async () => {
    const [name] = readdirSync(copy).filter((found) => found.startsWith(`answer-${hash}`));
    const answer = JSON.parse(readFileSync(join(copy, name!), 'utf8'));
    rmSync(join(copy, name!));
    writeFileSync(
      join(copy, name!),
      JSON.stringify({ ...answer, signature: { r: `0x${'11'.repeat(32)}`, vs: `0x${'22'.repeat(32)}` } }),
    );
    const { report } = await auditWith({ records: copy });
    expect(report.unposted).toEqual([]);
  });
});
