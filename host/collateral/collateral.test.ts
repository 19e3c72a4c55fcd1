/** Collateral from a service, a cache and a folder; none of them trusted. */

import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import forge from 'node-forge';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { INTEL_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';
import { judgeQuote } from '../../lib/attestation/judge.ts';
import { type PlatformKind, platformKindOf } from '../../lib/attestation/quote/platform-kind.ts';
import { parseQuote } from '../../lib/attestation/quote/quote.ts';
import {
  simulatedCollateral,
  simulatedQeIdentity,
  simulatedTcbInfo,
} from '../../lib/attestation/simulated/collateral.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import {
  PUBLISHED_QUOTES,
  publishedQuote,
  readPublishedCollateral,
  readPublishedQuote,
  simulatedCase,
} from '../../lib/attestation/testing.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { collateralDesk } from './attach.ts';
import { cachedSource } from './cache.ts';
import { folderSource } from './folder.ts';
import { inspectCollateral } from './inspect.ts';
import { type Part, startPcs, type TestPcs } from './pcs.fixture.ts';
import { pcsSource } from './pcs.ts';
import { simulatedSource } from './simulated.ts';
import { type CollateralSource, firstCurrent, kindName } from './source.ts';

const scratch = mkdtempSync(join(tmpdir(), 'collateral-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));
let folders = 0;
const newFolder = () => {
  const path = join(scratch, String(folders++));
  mkdirSync(path);
  return path;
};

const SIMULATED = PUBLISHED_SIMULATED_COLLATERAL;
const simulated = simulatedCase();
const KIND = platformKindOf(parseQuote(simulated.quote));
const NOW = Date.parse('2026-01-01T00:00:00Z');
const DAY = 86_400_000;

/** Simulated collateral that is current. */
const between = (issueDate: string, nextUpdate: string, tcbEvaluationDataNumber = 1): Collateral =>
  simulatedCollateral({
    tcbInfo: { ...simulatedTcbInfo(), issueDate, nextUpdate, tcbEvaluationDataNumber },
    qeIdentity: { ...simulatedQeIdentity(), issueDate, nextUpdate, tcbEvaluationDataNumber },
  });

let warnings: string[];
const log = { info() {}, warn: (_fields: object, message: string) => void warnings.push(message) };
beforeEach(() => {
  warnings = [];
});

const servers: TestPcs[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});
async function pcs(...parameters: Parameters<typeof startPcs>): Promise<TestPcs> {
  const server = await startPcs(...parameters);
  servers.push(server);
  return server;
}
const refused = (code: string) => expect.objectContaining({ code });

describe('a service', () => {
  test.each(['intel', 'pccs'] as const)(
    'that speaks as %s is asked for what the platform needs',
    async (dialect) => {
      const server = await pcs(SIMULATED, dialect);
      const rootCrlUrl = dialect === 'intel' ? `${server.url}/IntelSGXRootCA.der` : undefined;
      expect(await pcsSource({ url: server.url, rootCrlUrl }).find(KIND)).toEqual(SIMULATED);
      expect(server.asked.toSorted()).toEqual(
        [
          dialect === 'intel' ? '/IntelSGXRootCA.der' : '/sgx/certification/v4/rootcacrl',
          '/sgx/certification/v4/pckcrl?ca=platform&encoding=der',
          '/tdx/certification/v4/qe/identity',
          '/tdx/certification/v4/tcb?fmspc=53494d000000',
        ].toSorted(),
      );
    },
  );

  test('is asked for early updates when told so', async () => {
    const server = await pcs(SIMULATED, 'pccs');
    await pcsSource({ url: `${server.url}/`, update: 'early' }).find(KIND);
    expect(server.asked).toContain('/tdx/certification/v4/tcb?fmspc=53494d000000&update=early');
    expect(server.asked).toContain('/tdx/certification/v4/qe/identity?update=early');
  });

  test('that serves the collateral of real platforms: every one is judged by it as by the file', async () => {
    const server = await pcs(SIMULATED, 'pccs');
    let judged = 0;
    for (const quote of PUBLISHED_QUOTES) {
      for (const published of quote.collateral) {
        const bytes = readPublishedQuote(quote);
        server.collateral = readPublishedCollateral(published);
        const collateral = await pcsSource({ url: server.url }).find(platformKindOf(parseQuote(bytes)));
        expect(collateral).toEqual(server.collateral);
        const now = new Date(published.verify_at_unix * 1000);
        const { status } = judgeQuote(bytes, { trustRoot: INTEL_ROOT, now, collateral });
        const expected = published.expected_status;
        if (!expected.startsWith('ERR')) expect(status, quote.name).toBe(expected);
        judged += 1;
      }
    }
    expect(judged).toBeGreaterThan(46);
  });

  test("asks about the processor's authority where the platform has that one", async () => {
    const kinds = PUBLISHED_QUOTES.filter(({ cert_data_type: type }) => type === 5).map((quote) =>
      platformKindOf(parseQuote(readPublishedQuote(quote))),
    );
    expect(new Set(kinds.map(({ tee, ca }) => `${tee} ${ca}`))).toEqual(
      new Set(['sgx platform', 'sgx processor', 'tdx platform']),
    );
  });

  const reply =
    (status: number, body: string, headers = {}) =>
    (_: unknown, response: ServerResponse) => {
      response.writeHead(status, headers).end(body);
    };
  const endless = (_: unknown, response: ServerResponse) => {
    const push = () => {
      while (!response.destroyed && response.write('x'.repeat(65_536)));
    };
    response.on('drain', push).writeHead(200);
    push();
  };
  const chain = { 'TCB-Info-Issuer-Chain': encodeURIComponent(SIMULATED.tcb_info_issuer_chain) };
  test.each<[string, Part, NonNullable<TestPcs['override'][Part]>, string]>([
    ['does not know the platform', 'tcb', reply(404, ''), 'PCS_STATUS'],
    ['is broken', 'identity', reply(500, 'oops'), 'PCS_STATUS'],
    ['never ends', 'tcb', endless, 'PCS_UNREACHABLE'],
    ['sends a CRL without end', 'pckcrl', endless, 'PCS_UNREACHABLE'],
    ['says nothing', 'tcb', () => {}, 'PCS_UNREACHABLE'],
    ['hangs up', 'rootcacrl', (request) => request.socket.destroy(), 'PCS_UNREACHABLE'],
    ['redirects', 'tcb', reply(302, '', { location: 'http://169.254.169.254/' }), 'PCS_UNREACHABLE'],
    ['sends HTML', 'tcb', reply(200, '<html>', { 'content-type': 'text/html' }), 'PCS_ANSWER'],
    ['sends another object', 'tcb', reply(200, '{"tcb":{}}'), 'PCS_ANSWER'],
    ['sends null', 'identity', reply(200, 'null'), 'PCS_ANSWER'],
    ['signs nothing', 'tcb', reply(200, '{"tcbInfo":{}}', chain), 'PCS_ANSWER'],
    ['signs with a number', 'tcb', reply(200, '{"tcbInfo":{},"signature":1}', chain), 'PCS_ANSWER'],
    ['has an odd signature', 'tcb', reply(200, '{"tcbInfo":{},"signature":"0"}', chain), 'PCS_ANSWER'],
    ['leaves out the chain', 'tcb', reply(200, '{"tcbInfo":{},"signature":"00"}'), 'PCS_HEADER'],
    [
      'has rubbish for a chain',
      'tcb',
      reply(200, '{"tcbInfo":{},"signature":"00"}', { 'TCB-Info-Issuer-Chain': '%E0%A4%A' }),
      'PCS_HEADER',
    ],
    ['sends a text as CRL', 'rootcacrl', reply(200, 'no crl'), 'PCS_ANSWER'],
    ['sends nothing as CRL', 'rootcacrl', reply(200, ''), 'PCS_ANSWER'],
  ])('that %s gives no collateral', async (_, part, override, code) => {
    const server = await pcs(SIMULATED, 'pccs');
    server.override[part] = override;
    const source = pcsSource({ url: server.url, timeout: 10_000 });
    await expect(source.find(KIND)).rejects.toThrowError(refused(code));
  });

  test('that is not there', async () => {
    await expect(pcsSource({ url: 'http://127.0.0.1:1' }).find(KIND)).rejects.toThrowError(
      refused('PCS_UNREACHABLE'),
    );
  });

  test('over https is believed with a certificate that the host knows, and not with one of its own', async () => {
    const tls = selfSigned();
    const server = await pcs(SIMULATED, 'pccs', tls);
    await expect(pcsSource({ url: server.url }).find(KIND)).rejects.toThrowError(refused('PCS_UNREACHABLE'));
    const [authority, quote] = [join(scratch, 'pccs.pem'), join(scratch, 'quote.bin')];
    writeFileSync(authority, tls.cert);
    writeFileSync(quote, simulated.quote);
    const cli = join(import.meta.dirname, '../../cli/main.ts');
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [cli, 'quote', 'collateral', quote, '--pcs', server.url],
      { env: { ...process.env, NODE_EXTRA_CA_CERTS: authority } },
    );
    expect(JSON.parse(stdout)).toEqual(SIMULATED);
  });

  test('may send CRLs as PEM', async () => {
    const server = await pcs(SIMULATED, 'pccs');
    const pem = Buffer.from(SIMULATED.root_ca_crl, 'hex')
      .toString('base64')
      .match(/.{1,64}/g)!
      .join('\n');
    const body = `-----BEGIN X509 CRL-----\n${pem}\n-----END X509 CRL-----\n`;
    server.override.rootcacrl = (_, response) => void response.end(body);
    expect(await pcsSource({ url: server.url }).find(KIND)).toEqual(SIMULATED);
  });
});

/** A certificate of 127.0.0.1 that nobody else issued. */
function selfSigned(): { key: string; cert: string } {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.publicKeyFromPem(
    publicKey.export({ type: 'spki', format: 'pem' }) as string,
  );
  certificate.validity.notAfter = new Date(Date.now() + DAY);
  certificate.setSubject([{ name: 'commonName', value: '127.0.0.1' }]);
  certificate.setIssuer([{ name: 'commonName', value: '127.0.0.1' }]);
  certificate.setExtensions([
    { name: 'basicConstraints', cA: true },
    { name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] },
  ]);
  certificate.sign(forge.pki.privateKeyFromPem(key), forge.md.sha256.create());
  return { key, cert: forge.pki.certificateToPem(certificate) };
}

describe('the cache', () => {
  /** A cache over a source that counts, at a time that the test sets. */
  function cacheOf(first: Collateral | Error) {
    const state = { now: NOW, answer: first as Collateral | Error | undefined, asked: 0 };
    const source: CollateralSource = {
      name: 'a source',
      async find() {
        state.asked += 1;
        if (state.answer instanceof Error) throw state.answer;
        return state.answer;
      },
    };
    const directory = newFolder();
    const open = () => cachedSource({ directory, source, log, now: () => state.now });
    const age = (to: number) => {
      for (const name of readdirSync(directory)) utimesSync(join(directory, name), to / 1000, to / 1000);
    };
    return { state, directory, open, age };
  }

  test('asks once, also for many at once, and after a restart not at all', async () => {
    const { state, open, age } = cacheOf(SIMULATED);
    const cache = open();
    expect(await Promise.all([1, 2, 3].map(() => cache.find(KIND)))).toEqual([
      SIMULATED,
      SIMULATED,
      SIMULATED,
    ]);
    age(NOW);
    await cache.find(KIND);
    expect(await open().find(KIND)).toEqual(SIMULATED);
    expect(state.asked).toBe(1);
  });

  test('asks anew after a day, and well before what it has runs out', async () => {
    const { state, open, age } = cacheOf(between('2025-12-20T00:00:00Z', '2026-01-10T00:00:00Z', 1));
    const cache = open();
    await cache.find(KIND);
    age(NOW);
    const newer = between('2025-12-30T00:00:00Z', '2026-01-29T00:00:00Z', 2);
    state.answer = newer;
    state.now = NOW + DAY - 1;
    expect(await cache.find(KIND)).not.toEqual(newer);
    state.now = NOW + DAY + 1;
    expect(await cache.find(KIND)).toEqual(newer);
    // Fetched a moment ago, but with two days left.
    state.now = Date.parse('2026-01-27T00:00:00Z');
    age(state.now);
    await cache.find(KIND);
    expect(state.asked).toBe(3);
  });

  test('gives what it has while the source fails, asks it rarely, and nothing once that has run out', async () => {
    const old = between('2025-12-20T00:00:00Z', '2026-01-10T00:00:00Z');
    const { state, open, age } = cacheOf(old);
    const cache = open();
    await cache.find(KIND);
    age(NOW);
    state.answer = new Error('down');
    state.now = NOW + 2 * DAY;
    expect(await cache.find(KIND)).toEqual(old);
    expect(await cache.find(KIND)).toEqual(old);
    expect(state.asked).toBe(2);
    expect(warnings).toEqual([expect.stringContaining('down')]);
    state.now += 61_000;
    await cache.find(KIND);
    expect(state.asked).toBe(3);
    state.now = Date.parse('2026-01-10T00:00:01Z');
    await expect(cache.find(KIND)).rejects.toThrow('down');
  });

  test.each<[string, Collateral, string]>([
    [
      'whose signature does not hold',
      { ...SIMULATED, tcb_info_signature: '00'.repeat(64) },
      'TCB_INFO_SIGNATURE',
    ],
    ['that has run out', between('2025-11-01T00:00:00Z', '2025-12-01T00:00:00Z'), 'QE_IDENTITY_EXPIRED'],
    [
      'of another platform',
      simulatedCollateral({ tcbInfo: { ...simulatedTcbInfo(), fmspc: '00'.repeat(6) } }),
      'COLLATERAL_FORMAT',
    ],
  ])('keeps nothing %s', async (_, collateral, code) => {
    const { directory, open } = cacheOf(collateral);
    await expect(open().find(KIND)).rejects.toThrowError(refused(code));
    expect(readdirSync(directory)).toEqual([]);
  });

  test('takes a file that something is wrong with for none', async () => {
    const { state, directory, open, age } = cacheOf(SIMULATED);
    const path = join(directory, `${kindName(KIND)}.json`);
    const contents = [
      '',
      '{',
      JSON.stringify({ ...SIMULATED, pck_crl: '00' }),
      JSON.stringify(SIMULATED).replace('{', '{"tcb_info":"x",'),
      ' '.repeat(200_000),
    ];
    for (const [index, content] of contents.entries()) {
      writeFileSync(path, content);
      age(NOW);
      expect(await open().find(KIND)).toEqual(SIMULATED);
      expect(state.asked).toBe(index + 1);
    }
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(SIMULATED);
    expect(readdirSync(directory)).toHaveLength(1);
  });

  test('is bounded', async () => {
    const directory = newFolder();
    const source: CollateralSource = {
      name: 'any',
      find: async ({ fmspc }) => simulatedCollateral({ tcbInfo: { ...simulatedTcbInfo(), fmspc } }),
    };
    const cache = cachedSource({ directory, source, log, now: () => NOW });
    for (let index = 0; index < 70; index += 1) {
      await cache.find({ ...KIND, fmspc: index.toString(16).padStart(12, '0') });
    }
    expect(readdirSync(directory)).toHaveLength(64);
  });
});

test("a folder gives the newest that is of the platform, and says once what it can't use", async () => {
  const directory = newFolder();
  const put = (name: string, value: unknown) => writeFileSync(join(directory, name), JSON.stringify(value));
  const source = folderSource(directory, log, () => NOW);
  expect(await source.find(KIND)).toBeUndefined();
  put('a.json', between('2025-12-01T00:00:00Z', '2026-01-05T00:00:00Z'));
  const newest = between('2025-12-20T00:00:00Z', '2026-01-20T00:00:00Z');
  put('b.json', newest);
  put('old.json', between('2024-12-01T00:00:00Z', '2025-01-01T00:00:00Z'));
  put('other.json', simulatedCollateral({ tcbInfo: { ...simulatedTcbInfo(), fmspc: '00'.repeat(6) } }));
  put('none.json', { a: 1 });
  for (let times = 0; times < 3; times += 1) expect(await source.find(KIND)).toEqual(newest);
  expect(warnings).toHaveLength(2);
  await expect(folderSource(join(directory, 'missing'), log).find(KIND)).rejects.toThrow('ENOENT');
});

describe('several sources', () => {
  const of = (name: string, answer: Collateral | Error | undefined): CollateralSource => ({
    name,
    find: async () => {
      if (answer instanceof Error) throw answer;
      return answer;
    },
  });
  const stale = between('2024-12-01T00:00:00Z', '2025-01-01T00:00:00Z');
  const first = (...answers: (Collateral | Error | undefined)[]) =>
    firstCurrent(
      answers.map((answer, index) => of(`source ${index}`, answer)),
      log,
      () => NOW,
    );

  test('the first current one is given; what fails or is stale is said once', async () => {
    const source = first(new Error('down'), stale, undefined, SIMULATED);
    for (let times = 0; times < 3; times += 1) expect(await source.find(KIND)).toEqual(SIMULATED);
    expect(warnings).toHaveLength(2);
  });

  test('stale collateral is better than none: the node says what is wrong with it', async () => {
    expect(await first(undefined, stale).find(KIND)).toEqual(stale);
    expect(await first(undefined, new Error('down')).find(KIND)).toBeUndefined();
  });

  test("the simulated platform's is built in, for that platform alone", async () => {
    expect(await simulatedSource.find(KIND)).toEqual(SIMULATED);
    expect(await simulatedSource.find({ ...KIND, fmspc: '00'.repeat(6) })).toBeUndefined();
    expect(await simulatedSource.find({ ...KIND, tee: 'sgx' })).toBeUndefined();
  });

  test('what a message brought counts only when this host has none that is current', async () => {
    const quote = toHex(simulated.quote);
    const older = between('2025-12-20T00:00:00Z', '2026-01-10T00:00:00Z');
    const desk = (own: Collateral | undefined) => collateralDesk(of('own', own), () => NOW);
    expect(await desk(SIMULATED).forQuote(quote, [older])).toEqual(SIMULATED);
    expect(await desk(stale).forQuote(quote, [{ ...older, pck_crl: '00' }, older])).toEqual(older);
    expect(await desk(undefined).forQuote(quote, [older])).toEqual(older);
    expect(await desk(stale).forQuote(quote, [])).toEqual(stale);
    expect(await desk(undefined).forQuote(quote)).toBeUndefined();
    expect(await desk(SIMULATED).forQuote('4455', [older])).toEqual(older);
  });
});

test('what collateral says of itself, once its signatures held', () => {
  expect(inspectCollateral(SIMULATED, KIND, NOW)).toEqual({
    kind: KIND satisfies PlatformKind,
    nextUpdate: Date.parse('2049-12-31T23:59:59Z'),
    tcbEvaluationDataNumber: 1,
  });
  const published = publishedQuote('tdx-v4-b0c06f000000-0c699dd4-dstack').collateral[0]!;
  const real = readPublishedCollateral(published);
  const { kind, nextUpdate } = inspectCollateral(real, undefined, published.verify_at_unix * 1000);
  expect(kind).toEqual({ tee: 'tdx', fmspc: 'b0c06f000000', ca: 'platform' });
  expect(nextUpdate).toBe(Date.parse(published.valid_to));
  expect(() => inspectCollateral(real, undefined, nextUpdate + 1)).toThrow();
});
