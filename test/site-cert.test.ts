/** `site cert` and scripts/getcert: a website's certificate as its users see it, and the ways in for one. */
import { execFile } from 'node:child_process';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SiteClient } from '../host/site-client.ts';
import { derOid, derSequence, derText } from '../lib/attestation/bytes/der-writer.ts';
import { newPrivateKey } from '../lib/protocol/secp256k1.ts';
import { p256PublicKey } from '../lib/protocol/site-evidence.ts';
import {
  authorityExtensions,
  certificate,
  extension,
  type KeyPair,
  newKey,
  TestAuthority,
} from './support/authority.ts';
import { dstack, type Outcome } from './support/cli.ts';
import { listenOn } from './support/front.ts';
import { node24 } from './support/network.ts';
import { SiteNode } from './support/site-node.ts';

const NAMES = ['site.example', 'www.site.example'];
const DAY = 86_400;
const now = Math.floor(Date.now() / 1000);
const scratch = mkdtempSync(join(tmpdir(), 'site-cert-'));
const privateKey = newPrivateKey();
const root = new TestAuthority();
const middleKey = newKey();
const middle = root.issue({
  key: middleKey,
  subject: 'Middle',
  extensions: authorityExtensions(0),
  serial: 77,
});

let site: SiteNode;
let ct: Server;
let ctUrl: string;
/** What the logs show, by id. */
let logged: Map<number, string>;
/** What is at the address of the issuer's certificate. */
let issuer: string | Buffer;

beforeAll(async () => {
  ct = createServer((request, response) => {
    const url = new URL(request.url!, 'http://ct');
    if (url.pathname === '/issuer') return void response.end(issuer);
    const id = url.searchParams.get('d');
    if (id !== null) return void response.end(logged.get(Number(id)) ?? '');
    const entries = [...logged].map(([entry, pem]) => {
      const shown = new X509Certificate(pem);
      const date = (text: string) => new Date(text).toISOString().slice(0, 19);
      const dates = { not_before: date(shown.validFrom), not_after: date(shown.validTo) };
      return { id: entry, serial_number: shown.serialNumber, issuer_name: shown.issuer, ...dates };
    });
    response.end(JSON.stringify(url.searchParams.get('q') === 'site.example' ? entries : []));
  });
  ctUrl = `http://127.0.0.1:${await listenOn(ct)}/`;
});
beforeEach(async () => {
  await site?.stop();
  site = await SiteNode.start({ privateKey, names: NAMES, roots: [root.pem] });
  logged = new Map();
  issuer = new X509Certificate(middle).raw;
});
afterAll(async () => {
  await site.stop();
  ct.close();
  ct.closeAllConnections();
  rmSync(scratch, { recursive: true });
});

function keyPairOf(scalar: Uint8Array): KeyPair {
  const spki = { key: Buffer.from(p256PublicKey(scalar)), format: 'der', type: 'spki' } as const;
  const publicKey = createPublicKey(spki);
  const jwk = { ...publicKey.export({ format: 'jwk' }), d: Buffer.from(scalar).toString('base64url') };
  return { publicKey, privateKey: createPrivateKey({ key: jwk, format: 'jwk' }) };
}

/** By the authority in the middle, which it names; for the network's key. */
const issued = (
  serial: number,
  from: number,
  more: Partial<Parameters<typeof certificate>[0]> = {},
): string =>
  certificate({
    key: keyPairOf(privateKey),
    issuer: 'Middle',
    issuerKey: middleKey,
    names: NAMES,
    serial,
    from,
    to: from + 90 * DAY,
    more: [
      extension(
        '1.3.6.1.5.5.7.1.1',
        false,
        derSequence(derSequence(derOid('1.3.6.1.5.5.7.48.2'), derText(0x86, `${ctUrl}issuer`))),
      ),
    ],
    ...more,
  });

const fileOf = (name: string, content: string): string => {
  writeFileSync(join(scratch, name), content);
  return join(scratch, name);
};
const cert = async (...args: string[]): Promise<Outcome & { report: Record<string, unknown> }> => {
  const outcome = await dstack(['site', 'cert', site.url, '--json', ...args]);
  return {
    ...outcome,
    report: outcome.stdout === '' ? {} : (JSON.parse(outcome.stdout) as Record<string, unknown>),
  };
};

describe('site cert', () => {
  test('without a certificate: exit code 1, with what an authority is to sign', async () => {
    const csr = join(scratch, 'request.pem');
    const { code, report } = await cert('--csr', csr);
    expect([code, report]).toMatchObject([1, { verdict: 'reject', code: 'NO_CERTIFICATE' }]);
    expect(readFileSync(csr, 'utf8')).toMatch(/^-----BEGIN CERTIFICATE REQUEST-----\n/);
  });

  test('brings one from a file or from another node, and shows what is used', async () => {
    const chain = issued(0x51, now) + middle;
    const brought = await cert('--file', fileOf('chain.pem', chain));
    expect([brought.code, brought.report]).toMatchObject([
      0,
      { verdict: 'accept', code: null, certificate: { serial: '51', names: NAMES.join(', ') }, names: NAMES },
    ]);
    expect((brought.report.certificate as { key: string }).key).toBe(brought.report.key);
    const out = join(scratch, 'out.pem');
    expect((await cert('--out', out)).code).toBe(0);
    expect(readFileSync(out, 'utf8')).toBe(chain);
    const other = await SiteNode.start({ privateKey, names: NAMES, roots: [root.pem] });
    const carried = await dstack(['site', 'cert', other.url, '--from', site.url]);
    await other.stop();
    expect(carried.stdout).toContain('verdict  yes: the website uses it now');
    expect(other.brought).toEqual(['51']);
  });

  test("says in the node's own words why one is not taken", async () => {
    const foreign = issued(1, now, { key: newKey() });
    expect(await cert('--file', fileOf('foreign.pem', foreign))).toMatchObject({
      code: 1,
      report: { verdict: 'reject', code: 'CERT_KEY' },
    });
    expect(await cert('--file', fileOf('long.pem', 'x'.repeat(16 * 1024 + 1)))).toMatchObject({
      code: 1,
      report: { code: 'CERT_MALFORMED' },
    });
    expect(site.brought).toEqual(['CERT_KEY']);
  });

  test('takes the certificates of a file, whatever a tool wrote around them, and sends no key that is in it', async () => {
    const chain = issued(0x61, now) + middle;
    const key = newKey().privateKey.export({ format: 'pem', type: 'pkcs8' });
    const text = `\ufeffsubject=CN = Site\n${key}${chain.replaceAll('\n', ' \r\n')}Server certificate\n`;
    expect((await cert('--file', fileOf('bundle.pem', text))).code).toBe(0);
    expect(site.certificate?.chain).toBe(chain);
    expect(await cert('--file', fileOf('key.pem', `${key}`))).toMatchObject({
      code: 1,
      report: { code: 'CERT_MALFORMED', message: expect.stringContaining('key.pem has no PEM certificate') },
    });
    expect(site.brought).toEqual(['61']);
  });

  test('a website that shows what is no certificate of the key it asks one for has none', async () => {
    const out = join(scratch, 'foreign-out.pem');
    const shown = issued(0x62, now);
    for (const [code, chain] of [
      ['CERT_MALFORMED', '\u001b[2Jgarbage'],
      ['CERT_KEY', issued(0x62, now, { key: newKey() })],
    ] as const) {
      site.take(shown + middle);
      site.certificate = { ...site.certificate!, chain };
      expect(await cert('--out', out), code).toMatchObject({ code: 1, report: { verdict: 'reject', code } });
      site.certificate = undefined;
    }
    expect(existsSync(out)).toBe(false);
  });

  test('a website that cannot be asked is not known, and a wrong call is a mistake', async () => {
    const gone = await dstack(['site', 'cert', 'https://127.0.0.1:1', '--json']);
    expect([gone.code, JSON.parse(gone.stdout)]).toMatchObject([
      1,
      { verdict: 'unknown', code: 'SITE_UNREACHABLE' },
    ]);
    expect((await dstack(['site', 'cert', site.url, '--file', join(scratch, 'nothing')])).code).toBe(2);
    expect((await dstack(['site', 'cert', 'http://site.example'])).code).toBe(2);
    expect((await dstack(['site', 'cert', site.url, '--file', 'a', '--from', site.url])).code).toBe(2);
  });
});

test('a client that was given the key hears nothing by a connection with another one', async () => {
  const status = { state: 'brought', hostImpersonable: true };
  expect(await new SiteClient(site.url, p256PublicKey(privateKey)).status()).toEqual(status);
  const other = new SiteClient(site.url, p256PublicKey(newPrivateKey()));
  for (const ask of [other.status(), other.request(), other.chain(), other.give('x')])
    await expect(ask).rejects.toMatchObject({ code: 'SITE_TLS_ENDED' });
});

describe('getcert', () => {
  const getcert = (...args: string[]): Promise<Outcome> =>
    new Promise((resolve) => {
      const script = join(import.meta.dirname, '../scripts/getcert.ts');
      execFile(node24, [script, ...args], (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
      });
    });

  test("brings the newest of the network's key, with its issuers, and no precertificate", async () => {
    const poison = extension('1.3.6.1.4.1.11129.2.4.3', true, new Uint8Array([5, 0]));
    logged = new Map([
      [1, issued(0x11, now - 9 * DAY)],
      [2, issued(0x12, now - 3 * DAY)],
      [3, issued(0x13, now - DAY, { more: [poison] })],
      [4, issued(0x14, now - DAY, { key: newKey() })],
      [5, issued(0x15, now - DAY, { names: ['site.example'] })],
    ]);
    const outcome = await getcert(site.url, '--ct', ctUrl);
    expect(outcome, outcome.stderr).toMatchObject({ code: 0 });
    expect(outcome.stdout).toContain('verdict  yes');
    expect(site.certificate).toMatchObject({ serial: '12', chain: logged.get(2)! + middle });
    // Again: the node has it already.
    expect(await getcert(site.url, '--ct', ctUrl)).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('CERT_OLDER'),
    });
  });

  test('writes it, from a file that site audit kept', async () => {
    const pem = issued(0x21, now);
    const date = new Date(now * 1000).toISOString().slice(0, 19);
    const entry = {
      id: 1,
      serial_number: '21',
      issuer_name: 'Middle',
      not_before: date,
      not_after: date,
      // Some sources leave the lines around it out.
      pem: pem.replaceAll(/-----[A-Z ]+-----|\n/g, ''),
    };
    const out = join(scratch, 'got.pem');
    expect(
      await getcert(site.url, '--ct', fileOf('ct.json', JSON.stringify([entry])), '--out', out),
    ).toMatchObject({
      code: 0,
    });
    expect(readFileSync(out, 'utf8')).toBe(pem + middle);
    expect(site.brought).toEqual([]);
  });

  test('what is not to be had is an error with a code, and nothing is brought', async () => {
    expect(await getcert(site.url, '--ct', ctUrl)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('CT_NONE'),
    });
    logged = new Map([[1, issued(1, now)]]);
    for (issuer of [new X509Certificate(root.pem).raw, 'garbage', Buffer.alloc(20_000)])
      expect(await getcert(site.url, '--ct', ctUrl)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('CT_ISSUER'),
      });
    expect(await getcert('http://site.example')).toMatchObject({ code: 2 });
    expect(await getcert(site.url, '--ct', join(scratch, 'nothing'))).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^getcert: USAGE: --ct takes .* cannot be read: ENOENT\n$/),
    });
    expect(await getcert(site.url, '--cd', 'x')).toMatchObject({ code: 2 });
    expect(site.brought).toEqual([]);
  });
});
