/**
 * What a stranger finds out about a website: between real daemons over a real chain, by the command that strangers use. Every
 * no has its code. What is refused even though the network key signed it is in cli/site/judge.test.ts.
 */
import type { ChildProcess } from 'node:child_process';
import { X509Certificate as X509 } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Wallet } from 'ethers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeDeploy } from '../contracts/bindings.ts';
import { selfSigned } from '../guest/tls/certificate.ts';
import { measurementOf } from '../lib/attestation/registers/measurement.ts';
import { simulatedCollateral } from '../lib/attestation/simulated/collateral.ts';
import { callUnix } from '../lib/daemon/unix-http.ts';
import { fromHex, sha256, to0x, toHex, utf8 } from '../lib/protocol/encoding.ts';
import { parseAddress } from '../lib/protocol/hex.ts';
import { tlsKey } from '../lib/protocol/keys.ts';
import { configHash } from '../lib/protocol/network-config.ts';
import {
  encodeAllowConfig,
  encodeAllowMeasurement,
  encodeAllowPlatform,
  encodeRevokeConfig,
  encodeRevokeMeasurement,
  encodeRevokePlatform,
} from '../lib/protocol/network-contract.ts';
import { nodePaths } from '../lib/protocol/onboarding-messages.ts';
import { Strict } from '../lib/protocol/schema.ts';
import { newPrivateKey } from '../lib/protocol/secp256k1.ts';
import { EVIDENCE_PATH, p256PublicKey, type SiteEvidence, sitePaths } from '../lib/protocol/site-evidence.ts';
import { type AcmeSite, AttestReply, sockets, TlsKeyReply } from '../lib/protocol/sockets.ts';
import { signingRequest } from '../lib/site/signing-request.ts';
import { dstack } from './support/cli.ts';
import { forgeBootstrap, secretOf } from './support/forge.ts';
import { type Front, forgeSite, nonceIn, sceneOf, startFront } from './support/forge-site.ts';
import { freePort } from './support/free-port.ts';
import { end, frontBelow, startHaproxy } from './support/front.ts';
import {
  eventually,
  registersOf,
  startTestNetwork,
  type TestNetwork,
  type TestNode,
} from './support/network.ts';
import { RelayHost } from './support/relay.ts';

/** anvil's second account, the owner of the second network. Public by design. */
const SECOND_KEY = '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d';
const scratch = mkdtempSync(join(tmpdir(), 'dstack-site-'));
const fronts: Front[] = [];

let network: TestNetwork;
let node: TestNode;
let relay: RelayHost;
let site: string;
let haproxy: ChildProcess | undefined;
let theTlsKey: Uint8Array;

beforeAll(async () => {
  network = await startTestNetwork();
  node = await network.start({ role: 'bootstrap' });
  await network.allow(node);
  const front = await frontBelow(node.directory);
  node.daemon('tls', []);
  site = `https://127.0.0.1:${front.listen.port}`;
  await eventually(async () => (await node.status()).state === 'bootstrapping', 'a bootstrap package');
  await expect(get(EVIDENCE_PATH)).rejects.toThrow('ECONNREFUSED');
  await expect(node.get(nodePaths.collateral)).rejects.toMatchObject({ code: 'NODE_STATE' });
  await network.bootstrap(node);
  await eventually(async () => existsSync(front.placeholder), 'what the front starts with');
  haproxy = await startHaproxy(front);
  relay = await RelayHost.create({
    rpcUrl: network.anvil.url,
    domain: network.domain,
    nodeUrl: node.url,
    stateDir: join(scratch, 'relay'),
  });
  relay.start();
  const { privateKey } = await callUnix({
    path: join(node.directory, 'run/dstack', sockets.replicatorForTls),
    method: 'GET',
    route: '/v1/tls-key',
    reply: TlsKeyReply,
  });
  theTlsKey = fromHex(privateKey);
  await eventually(async () => relay.log().includes('has collateral for its website'), 'collateral');
  await eventually(async () => (await get(EVIDENCE_PATH)).status === 200, 'the website');
});
afterAll(async () => {
  for (const front of fronts) await front.close();
  if (haproxy !== undefined) await end(haproxy);
  await relay?.kill();
  await network?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** As a visitor who looks at nothing. */
const get = (path: string, from = site): Promise<{ status: number; body: string }> =>
  new Promise((resolve, reject) => {
    request(`${from}${path}`, { rejectUnauthorized: false, agent: false }, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode!, body }), reject);
    })
      .on('error', reject)
      .end();
  });

/** The node's own answer for a nonce, as soon as it is somebody's turn. */
async function genuine(nonce: string): Promise<SiteEvidence> {
  for (;;) {
    const { status, body } = await get(`${EVIDENCE_PATH}?nonce=${nonce}`);
    if (status === 200) return JSON.parse(body) as SiteEvidence;
    expect(status).toBe(429);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

async function front(...how: Parameters<typeof startFront>): Promise<Front> {
  const started = await startFront(...how);
  fronts.push(started);
  return started;
}

const chainArgs = (contract = network.contract) => [
  ...['--network', contract, '--rpc', network.anvil.url, '--chain-id', String(network.domain.chainId)],
  ...['--flavour', 'sim'],
];

interface Report {
  verdict: string;
  code: string | null;
  message: string;
  steps: { name: string }[];
  key: string;
  browser: string;
}

async function verify(url: string, ...more: string[]): Promise<Report & { exit: number | null }> {
  const args = ['site', 'verify', url, ...(more.includes('--network') ? [] : chainArgs()), '--json', ...more];
  const { code, stdout, stderr } = await dstack(args);
  expect(stdout, stderr).not.toBe('');
  return { ...(JSON.parse(stdout) as Report), exit: code };
}

describe('site verify says yes', () => {
  test("of the network's own website, with the key of the connection, and keeps the evidence", async () => {
    const kept = join(scratch, 'kept.json');
    const report = await verify(site, '--out', kept);
    expect(report).toMatchObject({
      exit: 0,
      verdict: 'accept',
      code: null,
      key: toHex(sha256(p256PublicKey(theTlsKey))),
      browser: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    });
    expect(report.steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'connection',
        'signature',
        'quote-signature',
        'tcb',
        'allowed',
        'report-data',
        'block',
      ]),
    );
    const evidence = JSON.parse(readFileSync(kept, 'utf8')) as SiteEvidence;
    // The relay brought it; the guest has no way to.
    expect(evidence.collateral).toBeDefined();
    expect(JSON.stringify(evidence)).not.toContain(toHex(theTlsKey));
  });

  test('in words, with what that does not prove', async () => {
    const { code, stdout } = await dstack(['site', 'verify', site, ...chainArgs()]);
    expect(code, stdout).toBe(0);
    expect(stdout).toContain('verdict  yes: the network');
    expect(stdout).toContain('that no other machine has the key');
  });
});

describe('site verify says no, and why', () => {
  test('TLS ended by the host: SITE_TLS_ENDED', async () => {
    const host = await front(async (target) => ({ body: JSON.stringify(await genuine(nonceIn(target))) }));
    expect(await verify(host.url)).toMatchObject({ exit: 1, verdict: 'reject', code: 'SITE_TLS_ENDED' });
  });

  test('a host that puts its own key into the evidence: SITE_SIGNATURE', async () => {
    const key = newPrivateKey();
    const publicKey = toHex(p256PublicKey(key));
    const host = await front(
      async (target) => ({ body: JSON.stringify({ ...(await genuine(nonceIn(target))), publicKey }) }),
      key,
    );
    expect(await verify(host.url)).toMatchObject({ exit: 1, verdict: 'reject', code: 'SITE_SIGNATURE' });
  });

  test("replayed evidence: SITE_REPLAYED, and under this visit's nonce: SITE_SIGNATURE", async () => {
    const old = await genuine('ab'.repeat(32));
    const replay = await front(() => ({ body: JSON.stringify(old) }), theTlsKey);
    expect(await verify(replay.url)).toMatchObject({ exit: 1, verdict: 'reject', code: 'SITE_REPLAYED' });
    const relabelled = await front(
      (target) => ({ body: JSON.stringify({ ...old, nonce: nonceIn(target) }) }),
      theTlsKey,
    );
    expect(await verify(relabelled.url)).toMatchObject({ exit: 1, code: 'SITE_SIGNATURE' });
  });

  test('a measurement, a config or a platform that was revoked, by its code', async () => {
    const [measurement, config] = [to0x(node.measurement), to0x(node.config)];
    const platform = `0x${node.quoting.platformId}`;
    for (const [revoke, allow, code] of [
      [
        encodeRevokeMeasurement({ measurement }),
        encodeAllowMeasurement({ measurement }),
        'MEASUREMENT_NOT_ALLOWED',
      ],
      [encodeRevokeConfig({ config }), encodeAllowConfig({ config }), 'CONFIG_NOT_ALLOWED'],
      [encodeRevokePlatform({ platform }), encodeAllowPlatform({ platform }), 'PLATFORM_NOT_ALLOWED'],
    ] as const) {
      await network.send(revoke);
      expect(await verify(site)).toMatchObject({ exit: 1, verdict: 'reject', code });
      await network.send(allow);
    }
  });

  test('evidence forged by an app, with all that an app can have signed: SITE_SIGNATURE', async () => {
    const host = await front(async (target) => {
      const real = await genuine(nonceIn(target));
      const { signature } = await callUnix({
        path: join(node.directory, 'run/dstack', sockets.replicatorForAgent),
        method: 'POST',
        route: '/v1/attest',
        body: { app: 'greeting', tag: 'site', data: real.publicKey + real.nonce },
        reply: AttestReply,
      });
      const [v, r, s] = [signature.slice(0, 2), signature.slice(2, 66), fromHex(signature.slice(66))];
      if (v === '1c') s[0] = s[0]! | 0x80;
      return { body: JSON.stringify({ ...real, signature: { r: `0x${r}`, vs: to0x(s) } }) };
    }, theTlsKey);
    expect(await verify(host.url)).toMatchObject({ exit: 1, verdict: 'reject', code: 'SITE_SIGNATURE' });
  });

  test('hostile words are shown, not obeyed', async () => {
    const host = await front(() => ({ body: '{"\\u001b[2J\u202e":1,"\\u001b[2J\u202e":1}' }));
    const { code, stdout } = await dstack(['site', 'verify', host.url, ...chainArgs()]);
    expect(code).toBe(1);
    expect(stdout).toContain('NO, SITE_MALFORMED');
    expect(stdout).toContain('\\u001b[2J');
    for (const raw of ['\u001b', '\u202e']) expect(stdout).not.toContain(raw);
  });

  test('nobody there is no verdict: SITE_UNREACHABLE', async () => {
    const report = await verify(`https://127.0.0.1:${await freePort()}`);
    expect(report).toMatchObject({ exit: 1, verdict: 'unknown', code: 'SITE_UNREACHABLE' });
  });

  test.each(['http://127.0.0.1/', 'https://user@example.com/', 'ftp://x', 'example.com'])(
    'a site that is none is a mistake of the call: %s',
    async (url) => {
      expect(await dstack(['site', 'verify', url, ...chainArgs()])).toMatchObject({ code: 2 });
    },
  );
});

test('one nonce a second, whoever asks; what was made without one is for all', async () => {
  await genuine('01'.repeat(32));
  const [second, ...many] = await Promise.all([
    get(`${EVIDENCE_PATH}?nonce=${'02'.repeat(32)}`),
    ...[1, 2, 3].map(() => get(EVIDENCE_PATH)),
  ]);
  expect([second!.status, JSON.parse(second!.body)]).toEqual([
    429,
    expect.objectContaining({ code: 'BUSY' }),
  ]);
  expect(new Set(many.map(({ body }) => body)).size).toBe(1);
  expect(JSON.parse(many[0]!.body)).toMatchObject({ nonce: '00'.repeat(32) });
});

describe('another network', () => {
  const secret = secretOf('the second network');
  const nonce = sha256(utf8('a nonce'));
  let second: TestNetwork;

  beforeAll(async () => {
    const owner = new Wallet(SECOND_KEY, network.rpc);
    const deployed = await owner.sendTransaction({
      data: encodeDeploy({ owner: owner.address, delay: 0, requestWindow: 50 }),
    });
    const contract = parseAddress((await deployed.wait())!.contractAddress!);
    const networkJson = network.configWith({ contract });
    second = {
      ...network,
      contract,
      networkJson,
      domain: { ...network.domain, contract },
      async send(data) {
        await (await owner.sendTransaction({ to: contract, data })).wait();
      },
    };
    await second.send(encodeAllowMeasurement({ measurement: to0x(measurementOf(registersOf())) }));
    await second.send(encodeAllowConfig({ config: to0x(configHash(Buffer.from(networkJson))) }));
    await second.send(encodeAllowPlatform({ platform: `0x${node.quoting.platformId}` }));
    await forgeBootstrap(second, secret);
  });

  test("the other network's website: SITE_OTHER_NETWORK; under this one's name: SITE_NETWORK_KEY", async () => {
    expect(await verify(site, ...chainArgs(second.contract))).toMatchObject({
      exit: 1,
      verdict: 'reject',
      code: 'SITE_OTHER_NETWORK',
    });
    const relabelled = await front(
      async (target) => ({
        body: JSON.stringify({ ...(await genuine(nonceIn(target))), contract: second.contract }),
      }),
      theTlsKey,
    );
    expect(await verify(relabelled.url, ...chainArgs(second.contract))).toMatchObject({
      exit: 1,
      code: 'SITE_NETWORK_KEY',
    });
  });

  test('collateral from a file of the asker', async () => {
    const file = join(scratch, 'collateral.json');
    writeFileSync(file, JSON.stringify(simulatedCollateral()));
    const host = await front(
      async (target) => ({
        body: JSON.stringify(
          forgeSite(await sceneOf(second), secret, fromHex(nonceIn(target)), { collateral: 'none' }),
        ),
      }),
      tlsKey(secret, 1),
    );
    const args = chainArgs(second.contract);
    expect(await verify(host.url, ...args)).toMatchObject({ exit: 1, code: 'COLLATERAL_MISSING' });
    expect(await verify(host.url, ...args, '--collateral', file)).toMatchObject({
      exit: 0,
      verdict: 'accept',
    });
  });

  describe('site audit', () => {
    /** As crt.sh has it, with the certificate. */
    function entry(id: number, privateKey: Uint8Array) {
      const made = { privateKey, chainId: 1, contract: second.domain.contract, builtAt: 1_750_000_000 + id };
      const pem = selfSigned(made).certificate;
      const { serialNumber, issuer } = new X509(pem);
      return {
        id,
        issuer_ca_id: 1,
        serial_number: serialNumber.toLowerCase(),
        issuer_name: issuer,
        not_before: '2025-06-14T00:00:00',
        not_after: '2035-06-14T00:00:00',
        pem,
      };
    }
    const domain = () => `${second.contract.toLowerCase()}.dstack.invalid`;
    const save = (name: string, value: unknown) => {
      const file = join(scratch, name);
      writeFileSync(file, JSON.stringify(value));
      return file;
    };
    async function audit(...more: string[]) {
      const { code, stdout, stderr } = await dstack([
        'site',
        'audit',
        domain(),
        ...chainArgs(second.contract),
        '--json',
        ...more,
      ]);
      expect(stdout, stderr).not.toBe('');
      return { ...(JSON.parse(stdout) as Record<string, unknown>), exit: code };
    }
    let first: string;
    beforeAll(async () => {
      first = save('epoch-1.json', forgeSite(await sceneOf(second), secret, nonce));
    });

    test("no foreign key: exit code 0, of the website's own key and of what the logs show", async () => {
      const host = await front(
        async (target) => ({
          body: JSON.stringify(forgeSite(await sceneOf(second), secret, fromHex(nonceIn(target)))),
        }),
        tlsKey(secret, 1),
      );
      const ct = save('own.json', [entry(1, tlsKey(secret, 1)), entry(2, tlsKey(secret, 1))]);
      expect(await audit('--site', host.url, '--ct', ct)).toMatchObject({
        exit: 0,
        shown: 2,
        forDomain: 2,
        own: 2,
        foreign: [],
        unknownEpochs: [],
      });
    });

    test('a foreign key is listed with serial, issuer and dates: exit code 1', async () => {
      const foreign = entry(7, newPrivateKey());
      const ct = save('foreign.json', [entry(1, tlsKey(secret, 1)), foreign]);
      const report = await audit('--evidence', first, '--ct', ct);
      expect(report).toMatchObject({ exit: 1, own: 1 });
      expect(report).toHaveProperty('foreign', [
        {
          id: 7,
          serial: foreign.serial_number.replace(/^0+/, ''),
          issuer: expect.stringContaining('Dstack network on chain 1'),
          notBefore: expect.stringMatching(/^2025-06-1/),
          notAfter: expect.stringMatching(/^2035-06-/),
          key: expect.stringMatching(/^[0-9a-f]{64}$/),
        },
      ]);
    });

    test('what can not be read, or is not what its entry says, counts as foreign', async () => {
      const { pem: _, ...without } = entry(3, tlsKey(secret, 1));
      const mixed = { ...entry(4, tlsKey(secret, 1)), serial_number: '1234' };
      const broken = { ...entry(5, tlsKey(secret, 1)), pem: 'no certificate' };
      const report = await audit('--evidence', first, '--ct', save('odd.json', [without, mixed, broken]));
      expect(report.exit).toBe(1);
      expect(
        (report as unknown as { foreign: { problem: string }[] }).foreign.map(({ problem }) => problem),
      ).toEqual([
        'its certificate could not be had',
        expect.stringContaining('another serial'),
        'its certificate can not be read',
      ]);
    });

    test('from an endpoint shaped like crt.sh, which is asked for the name and for its neighbours', async () => {
      const all = [entry(1, tlsKey(secret, 1)), entry(9, newPrivateKey())];
      const asked: string[] = [];
      const server = createServer((req, res) => {
        const url = new URL(req.url!, 'http://ct');
        asked.push(url.search);
        const id = url.searchParams.get('d');
        if (id !== null) return void res.end(all.find((one) => one.id === Number(id))!.pem);
        res.end(
          JSON.stringify(
            url.searchParams.get('q') === domain() ? all.map(({ pem: _, ...rest }) => rest) : [],
          ),
        );
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const out = join(scratch, 'saved.json');
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
      const report = await audit('--evidence', first, '--ct', url, '--out', out);
      server.close();
      expect(report).toMatchObject({ exit: 1, shown: 2, own: 1 });
      expect(asked).toEqual([
        `?q=${domain()}&output=json`,
        '?q=*.dstack.invalid&output=json',
        '?d=1',
        '?d=9',
      ]);
      expect(await audit('--evidence', first, '--ct', out)).toMatchObject({ exit: 1, shown: 2, own: 1 });
    });

    test("a wrong key to compare with ends it: evidence that is not the network's", async () => {
      const ct = save('none.json', []);
      const other = save('other.json', forgeSite(await sceneOf(second), secretOf('another'), nonce));
      const outcome = await dstack([
        'site',
        'audit',
        domain(),
        ...chainArgs(second.contract),
        '--ct',
        ct,
        '--evidence',
        other,
      ]);
      expect(outcome.code).toBe(1);
      expect(outcome.stderr).toContain('SITE_SIGNATURE');
    });

    // Last: the contract's epoch goes on.
    test('keys of old epochs are known from kept evidence alone, and without it they are foreign', async () => {
      const now = secretOf('the second network, anew');
      await forgeBootstrap(second, now);
      const present = save('epoch-2.json', forgeSite(await sceneOf(second), now, nonce, { epoch: 2 }));
      const ct = save('both.json', [entry(1, tlsKey(secret, 1)), entry(2, tlsKey(now, 2))]);
      expect(await audit('--evidence', present, '--evidence', first, '--ct', ct)).toMatchObject({
        exit: 0,
        own: 2,
        unknownEpochs: [],
      });
      expect(await audit('--evidence', present, '--ct', ct)).toMatchObject({
        exit: 1,
        own: 1,
        unknownEpochs: [1],
      });
    });
  });
});

describe('site dns', () => {
  const account = 'https://ca.example/acct/1';
  const status: AcmeSite['status'] = {
    state: 'current',
    hostImpersonable: true,
    account,
    issuers: ['ca.example'],
    methods: ['http-01'],
  };
  let said: AcmeSite['status'];
  let own: Front;
  beforeAll(async () => {
    // The node's own evidence, by its own key; in acme's place the test. What the real one says is in site-caa.test.ts.
    const csr = Buffer.from(signingRequest(theTlsKey, ['site.example'])).toString('base64');
    const lines = csr.match(/.{1,64}/g)!.join('\n');
    own = await front(async (target) => {
      if (target === sitePaths.status) return { body: JSON.stringify(said) };
      if (target === sitePaths.request)
        return { body: `-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----\n` };
      return { body: JSON.stringify(await genuine(nonceIn(target))) };
    }, theTlsKey);
  });
  const found = (hostImpersonable: boolean) =>
    callUnix({
      path: join(node.directory, 'run/dstack', sockets.replicatorForAcme),
      method: 'POST',
      route: '/v1/site-caa',
      body: { hostImpersonable },
      reply: Strict({}),
    });
  async function dns(domain: string, ...more: string[]) {
    const { code, stdout, stderr } = await dstack([
      'site',
      'dns',
      domain,
      '--site',
      own.url,
      ...chainArgs(),
      '--json',
      ...more,
    ]);
    expect(stdout, stderr).not.toBe('');
    return { exit: code, ...(JSON.parse(stdout) as { verdict: string; code: string; records: string[] }) };
  }
  const records = [
    `site.example. IN CAA 0 issue "ca.example; accounturi=${account}; validationmethods=http-01"`,
    'site.example. IN CAA 0 issuewild ";"',
  ];

  test('prints the records, and says that the node does not see them: exit code 1', async () => {
    said = { ...status, caa: { code: 'CAA_MISSING', reason: 'a.example: there are none' } };
    expect(await dns('site.example')).toMatchObject({
      exit: 1,
      verdict: 'reject',
      code: 'CAA_MISSING',
      records,
    });
    // The evidence counts, not what anybody could answer beside it.
    said = { ...status, hostImpersonable: false };
    expect(await dns('site.example')).toMatchObject({ exit: 1, code: 'CAA_UNKNOWN', records });
  });

  test('and once it does, with it signed in the evidence: exit code 0', async () => {
    said = { ...status, hostImpersonable: false };
    await found(false);
    expect(await dns('site.example')).toMatchObject({ exit: 0, verdict: 'accept', code: null, records });
    const { exit, stdout } = await dstack(['site', 'verify', site, ...chainArgs()]).then(
      ({ code, stdout }) => ({
        exit: code,
        stdout,
      }),
    );
    expect(exit).toBe(0);
    expect(stdout).toMatch(/hostImpersonable +false/);
    expect(stdout).toContain('DNS records that leave certificates');
    await found(true);
    expect((await verify(site)) as object).toMatchObject({ claims: { hostImpersonable: true } });
  });

  test('nothing for another name, without an account, or by the word of somebody else', async () => {
    said = status;
    expect(await dns('other.example')).toMatchObject({ exit: 1, code: 'SITE_NAME', records: [] });
    said = { state: 'brought', hostImpersonable: true };
    expect(await dns('site.example')).toMatchObject({ exit: 1, code: 'SITE_ACCOUNT', records: [] });
    said = { ...status, issuers: [] };
    expect(await dns('site.example')).toMatchObject({ exit: 1, code: 'CAA_POLICY', records: [] });
    const host = await front(async (target) =>
      target.includes('evidence')
        ? { body: JSON.stringify(await genuine(nonceIn(target))) }
        : { body: JSON.stringify({ ...status, account: 'https://ca.example/acct/of-the-host' }) },
    );
    const { code, stdout } = await dstack([
      'site',
      'dns',
      'site.example',
      '--site',
      host.url,
      ...chainArgs(),
    ]);
    expect(code).toBe(1);
    expect(stdout).toContain('NO, SITE_TLS_ENDED');
    expect(stdout).not.toContain('of-the-host');
  });
});
