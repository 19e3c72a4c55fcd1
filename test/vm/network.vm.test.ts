/**
 * Two real VMs, two relays, one chain of a public one's rules: what only a VM can show. The boots are expensive under
 * emulation, so everything shares them, in the order written. The demo's own parts drive it: what is tested is what a user
 * runs. The second node comes in as a stranger would: by `npx dstack node join` and a host.env.
 */
import { createECDH, createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  copyFileSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AuditReport } from '../../cli/audit/audit.ts';
import { addressOf } from '../../lib/protocol/secp256k1.ts';
import { sitePaths } from '../../lib/protocol/site-evidence.ts';
import { type DemoAuthority, SITE_NAME, startAuthority } from '../../scripts/demo/authority.ts';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  asOwner,
  bootstrapFirst,
  buildApp,
  buildApps,
  deployNetwork,
  image,
  owner,
  packAs,
  prepareNetwork,
  relayKeys,
  shareApps,
} from '../../scripts/demo/network.ts';
import { dstack, jsonLines, repository, stopAll } from '../../scripts/demo/processes.ts';
import { ask, fetchPage, visit } from '../../scripts/demo/site.ts';
import { say, seconds, waitFor } from '../../scripts/demo/steps.ts';
import { TestAuthority } from '../support/authority.ts';
import { withoutProposals } from '../support/proposals.ts';
import { appNetwork } from './app-network.ts';
import { setSecret } from './app-secret.ts';
import { appSites } from './app-sites.ts';
import { patternsOf } from './host-view/encodings.ts';
import { capturePackets, conversations } from './host-view/packets.ts';
import { descendants, isQemu } from './host-view/processes.ts';
import { filesUnder, type HostView, scanFiles, scanHost } from './host-view/scan.ts';
import { type Findings, Search } from './host-view/search.ts';
import { derivedSecrets, takeSecret } from './host-view/spy.ts';
import { refusesHostileChains } from './hostile-certificates.ts';
import { rolloutsUnderLoad } from './rollout-under-load.ts';

const CHAIN = 11_155_112;
/** Small: formatting is most of what a first boot costs. */
const DISK_MIB = 64;
/**
 * What the image itself holds, which everybody has: the kernel's test vectors for RSA (crypto/testmgr.h), a private key that
 * belongs to nobody.
 */
const PUBLIC_KEYS = [`a private key in DER (pkcs1) in ${join(image, 'vmlinuz')}`];
const folder = join(repository, '.state/test');
const packets = join(folder, 'b.pcap');
/**
 * Of a certificate, seconds: a third of it is left for the renewal, however slow the machine is. Pebble would propose any moment of so
 * short a life: the last one too, and all orders of a week one after the other.
 */
const LIFETIME = 450;
/** How long the front gives a handshake (imageFront.times.request), less the clock's own inexactness, milliseconds. */
const HANDSHAKE_ENDED = 14_500;
/** Seconds in which a machine, however slow, does what a quick one does in some. */
const PATIENCE = 600;
let network: DemoNetwork;
let authority: DemoAuthority;
/** Visitors of the website by its name, who trust the authority alone. */
let visitors: Visitors;
let a: DemoHost;
let b: DemoHost;
let archives: string[];
let manifests: string[];

beforeAll(async () => {
  archives = await buildApps();
  network = await deployNetwork(folder, CHAIN);
  const shared = { network, disk: true, diskMiB: DISK_MIB };
  a = new DemoHost({ ...shared, name: 'a', gasKey: relayKeys[0], peers: [] });
  authority = await startAuthority(network, { lifetime: LIFETIME, by: withoutProposals });
  manifests = await prepareNetwork(network, a, archives, { site: authority.siteFile });
  authority.road.leadTo(a);
  await bootstrapFirst(network, a);
  b = new DemoHost({ ...shared, name: 'b', gasKey: relayKeys[1], peers: [a.gossipUrl], quoteVersion: 5 });
  shareApps(a, b);
  await b.join({ createDisk: true });
  await capturePackets(join(b.folder, 'vm/qmp.sock'), packets);
  await b.joined();
  visitors = new Visitors();
}, 3_600_000);

afterAll(async () => {
  visitors?.leave();
  await authority?.stop();
  await stopAll();
}, 300_000);

const agentInfo = async (host: DemoHost) => (await host.page('1')).page;

describe('two VMs', () => {
  test("serve the contract's app under one TLS key, with one app key and a disk each", async () => {
    const [pageA, pageB] = [await agentInfo(a), await agentInfo(b)];
    expect(pageB.tlsKey).toBe(pageA.tlsKey);
    expect(pageB.fingerprint).toBe(pageA.fingerprint);
    expect(pageB.fingerprint).toMatch(/^[0-9a-f]{32}$/);
    expect(pageA.note).toContain('was here first');
    expect(pageB.note).toContain('was here first');
    expect(pageB.note).not.toBe(pageA.note);
  });

  test('serve it through a front that speaks HTTP/2, and whose node answers on its own paths', async () => {
    for (const { tlsPort } of [a, b]) {
      // A name that is nobody's gets the network's own certificate too.
      const session = connectHttp2(`https://127.0.0.1:${tlsPort}`, {
        rejectUnauthorized: false,
        servername: 'nobody.example',
        ecdhCurve: 'X25519MLKEM768',
      });
      const get = async (path: string) => {
        const stream = session.request({ ':path': path });
        const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
        return { status: headers[':status'], body: await text(stream) };
      };
      expect(await get('/')).toMatchObject({
        status: 200,
        body: expect.stringContaining('Hello from version 1'),
      });
      expect(await get('/.well-known/dstack/nothing')).toMatchObject({
        status: 404,
        body: expect.stringContaining('NO_ROUTE'),
      });
      const socket = session.socket as TLSSocket;
      expect(socket.alpnProtocol).toBe('h2');
      const spki = socket.getPeerX509Certificate()!.publicKey.export({ type: 'spki', format: 'der' });
      expect(createHash('sha256').update(spki).digest('hex')).toBe((await fetchPage(tlsPort))?.tlsKey);
      session.close();
    }
  });

  test('have the network key that the contract has', async () => {
    const status = await dstack(owner(network), 'network', 'status');
    const key = /^network key\s+(0x[0-9a-fA-F]{40})$/m.exec(status)?.[1];
    expect((await a.status()).networkKey).toBe(key);
    expect((await b.status()).networkKey).toBe(key);
    expect(status).toMatch(/^onboarded\s+yes$/m);
  });

  test('have a life that anyone can audit, from an endpoint and what a relay serves', async () => {
    const records = ['--archive', a.gossipUrl, '--archive', b.archive];
    const chain = ['--rpc', network.rpcUrl, '--depth', '0', '--flavour', 'sim'];
    const report = JSON.parse(
      await dstack({}, 'audit', network.contract, ...chain, ...records, '--json'),
    ) as AuditReport;
    const bad = report.findings.filter(({ severity }) => severity !== 'warning');
    expect(bad).toEqual([]);
    expect(report.holders.map(({ role, proof }) => `${role}: ${proof.is}`)).toEqual([
      'bootstrap: verified',
      'onboarded: verified',
    ]);
  });

  test('end the TLS of their website themselves, as a stranger finds out', async () => {
    const chain = ['--rpc', network.rpcUrl, '--chain-id', String(CHAIN)];
    const flags = ['--network', network.contract, ...chain, '--flavour', 'sim', '--json'];
    for (const { tlsPort } of [a, b]) {
      const said = await dstack({}, 'site', 'verify', `https://127.0.0.1:${tlsPort}`, ...flags);
      expect(JSON.parse(said)).toMatchObject({ verdict: 'accept', code: null });
    }
  });

  test('offer the host two ports, and no key on either', async () => {
    for (const path of ['/getkey/greeting', '/v1/tls-key', '/v1/app-key', '/v1/disk-key', '/info']) {
      const response = await fetch(`${b.nodeUrl}${path}`);
      expect(response.status, path).toBe(404);
    }
  });

  test('joined by one command and a host.env, which said what it did and waited for', async () => {
    await waitFor('node join to say so', async () => b.progress().includes('It stays') || undefined, 60);
    const said = b.progress();
    const lines = [
      `Joining ${network.contract} on chain ${CHAIN}; 0x[0-9a-fA-F]{40} pays`,
      'Image .*/image-sim \\(sim\\), 2 CPUs and 2048 MiB: measurement 0x[0-9a-f]{64}',
      'This host is platform 0x[0-9a-f]{64}, a simulated one',
      `network.json is config 0x[0-9a-f]{64}, from ${a.gossipUrl}/v1/records/config-[0-9a-f]{64}.json`,
      'The relay runs: gossip http',
      'Starting the VM',
      'The VM runs under (kvm|tcg)',
      'The VM is booting',
      'Registered: request 0x[0-9a-f]{8}… is on chain since block',
      'The node has joined: epoch 1, network key 0x[0-9a-fA-F]{40}',
      'It stays until Ctrl-C',
    ];
    // In this order, possibly with other lines in between.
    expect(said).toMatch(new RegExp(lines.join('[^]*')));
    expect(readFileSync(join(b.volume, 'network.json'))).toEqual(readFileSync(join(folder, 'network.json')));
    const status = await dstack({}, 'node', 'status', '--env-file', join(b.folder, 'host.env'));
    expect(status).toContain("node (sim) is joined, with the network's key");
  });
});

describe('a certificate of an authority', () => {
  // What comes after looks at all that this host runs, and the authority is not of it.
  afterAll(() => authority.stop());

  test('is ordered by the first node, and renewed before its end: no visitor is ever turned away', {
    timeout: 1_800_000,
  }, async () => {
    // On a slow machine it may have been renewed while all the rest was looked at: orders of a week are few.
    const renewed = async () => {
      const { serial } = await lookAt(a);
      const isNewer = visitors.first !== undefined && serial !== visitors.first;
      return (isNewer && visitors.serials.has(serial)) || undefined;
    };
    await waitFor('the renewal', renewed, LIFETIME + PATIENCE, () => visitors.says());
    say(visitors.says());
    expect(visitors.failed).toEqual([]);
    expect(visitors.keys).toEqual(new Set([(await fetchPage(b.tlsPort))?.tlsKey]));
  });

  test('is one on both nodes, brought by the relays, and either serves the name under the same key', {
    timeout: 1_800_000,
  }, async () => {
    // Whichever ordered it last: a node answers for the challenges of the other, and each goes on to renew.
    const both = async () => {
      const [shownByA, shownByB] = [await lookAt(a), await lookAt(b)];
      const same = shownByA.serial === shownByB.serial && shownByA.tlsKey === shownByB.tlsKey;
      return (same && shownByB.status === 200) || undefined;
    };
    await waitFor('both to show it', both, LIFETIME + PATIENCE, () => visitors.says());
    authority.road.leadTo(b);
    await visitors.look();
    visitors.leave();
    authority.road.leadTo(a);
  });

  test('is not what a hostile host brings: that changes nothing, and is refused by its code', async () => {
    const { tlsKey } = await lookAt(b);
    // No newer than the one in use is the one in use itself; one from before may have ended.
    const present = await ask(b.tlsPort, sitePaths.certificate);
    await refusesHostileChains(b.tlsPort, SITE_NAME, present, new TestAuthority(), false);
    const shown = await lookAt(b);
    expect(shown.tlsKey).toBe(tlsKey);
    expect(shown.serial).not.toBe(visitors.first);
  });
});

describe('a rollout whose archive the host spoiled', () => {
  const target = () => join(b.volume, 'archives', `${digest(archives[1]!)}.tar`);
  let since = 0;

  beforeAll(async () => {
    rmSync(target());
    since = b.console().length;
    await asOwner(network, 'app', 'rollout', 'greeting', manifests[1]!);
    await refusal('ARCHIVE_MISSING');
  }, 900_000);

  /** Waits for this refusal on B's console, after the last one. */
  async function refusal(code: string): Promise<void> {
    await waitFor(
      `B to refuse with ${code}`,
      async () => b.console().slice(since).includes(code) || undefined,
      // A file is looked at again after a minute at most, and reading it takes a while.
      PATIENCE,
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
    { timeout: 900_000 },
    async (_, code, spoil) => {
      rmSync(target(), { force: true });
      since = b.console().length;
      // As a whole: a node that looks meanwhile must not find the good one.
      const spoiled = join(b.folder, 'spoiled.tar');
      spoil(spoiled);
      renameSync(spoiled, target());
      await refusal(code);
      expect((await fetchPage(b.tlsPort))?.version).toBe('1');
    },
  );

  test('put right, it is taken up by itself; a rollback is too', { timeout: 2_400_000 }, async () => {
    rmSync(target(), { force: true });
    copyFileSync(archives[1]!, target());
    await Promise.all([a.page('2'), b.page('2')]);
    await asOwner(network, 'app', 'rollback', 'greeting');
    await Promise.all([a.page('1'), b.page('1')]);
    expect((await fetchPage(b.tlsPort))?.version).toBe('1');
  });
});

describe('a new version beside the old one', () => {
  test('no visitor notices a rollout, one that fails, nor going back', { timeout: 2_400_000 }, async () => {
    await rolloutsUnderLoad(network, a, archives);
    // B follows the same contract; the files that the test took from A are put back.
    shareApps(b, a);
  });
});

describe('apps with domains of their own', () => {
  test('two answer beside the website, each at its own; a third that wants one of theirs is refused', {
    timeout: 2_400_000,
  }, async () => {
    await appSites(network, a, archives);
  });
});

describe('an app that tries to get everywhere', () => {
  test('gets to its agent and its own containers, and the other app serves', {
    timeout: 2_400_000,
  }, async () => {
    await appNetwork(network, a, '1');
  });
});

describe('an app that tells all it knows', () => {
  const tags = ['greeting', 'witness', 'Tag.with_all-sorts-0'];
  let told: {
    keys: Record<string, string>;
    secret: string;
    file: string;
    info: { disk: { diskId: string } };
  };
  /** What its owner has sealed to it. */
  const secret = randomBytes(32).toString('hex');
  let search: Search;
  let view: HostView;
  let found: Findings;
  let notes: string[];

  beforeAll(async () => {
    notes = [(await agentInfo(a)).note, (await agentInfo(b)).note];
    const archive = await buildApp(
      'witness',
      '--version',
      '3',
      '--files',
      join(import.meta.dirname, 'witness'),
    );
    const envelope = await setSecret(network, a, 'greeting', 'witness', secret);
    const options = ['--port', '8080', '--secret', `witness=${envelope}`, '--api', 'info', '--api', 'key'];
    const manifest = await packAs('greeting', network, a, archive, ...options, '--set', 'data=rw');
    shareApps(a, b);
    await asOwner(network, 'app', 'rollout', 'greeting', manifest);
    await Promise.all([a.page('3'), b.page('3')]);
    told = JSON.parse(await ask(b.tlsPort, '/cgi-bin/tell.cgi'));
  }, 2_400_000);

  test("has the keys that the network's secret gives, which a forged sim quote gets", {
    timeout: 1_800_000,
  }, async () => {
    const networks = await takeSecret(network, image, a.nodeUrl, relayKeys[2]);
    const diskIds = [
      told.info.disk.diskId,
      JSON.parse(await ask(a.tlsPort, '/cgi-bin/tell.cgi')).info.disk.diskId,
    ];
    const secrets = derivedSecrets(networks, diskIds, [{ app: 'greeting', tags }]);
    // Not finding the keys means something only because these are the right ones.
    const keyOf = (name: string) => Buffer.from(secrets.find((one) => one.name === name)!.bytes);
    for (const tag of tags)
      expect(keyOf(`greeting's key ${tag}`).toString('hex') === told.keys[tag]).toBe(true);
    expect(addressOf(keyOf('the network key'))).toBe((await a.status()).networkKey);
    expect(spkiHash(keyOf('the TLS key'))).toBe((await fetchPage(b.tlsPort))?.tlsKey);
    search = new Search(
      patternsOf([
        ...secrets,
        ...[...notes, told.file].map((text) => ({ name: 'what an app wrote', bytes: Buffer.from(text) })),
        { name: "an app's secret", bytes: Buffer.from(secret) },
      ]),
    );
  });

  test('has the secret that its owner sealed, on both nodes', async () => {
    expect(told.secret === secret).toBe(true);
    expect(JSON.parse(await ask(a.tlsPort, '/cgi-bin/tell.cgi')).secret === secret).toBe(true);
  });

  test('is the only one that tells: nothing that the host can see holds any of it', {
    timeout: 1_800_000,
  }, async () => {
    const began = performance.now();
    view = await scanHost(search, [folder, image]);
    for (const [flow, bytes] of conversations(packets)) search.bytes(`the packets of ${flow}`, bytes);
    found = search.findings;
    const bytes = [...found.seen.values()].reduce((sum, size) => sum + size, 0);
    say(
      `looked through ${Math.round(bytes / 2 ** 20)} MiB of ${found.seen.size} things in ${seconds(began)} s: ` +
        `${view.processes} processes, ${view.files.length} files, ${view.listeners.length} sockets`,
    );
    expect(found.hits).toEqual(PUBLIC_KEYS);
  });

  test('and everything was looked at', async () => {
    for (const file of [a.disk, b.disk, join(image, 'root.img')]) {
      expect(found.seen.get(file), file).toBe(statSync(file).size);
    }
    // These grow.
    const others = [
      packets,
      a.consoleLog,
      b.consoleLog,
      join(folder, 'platform'),
      join(b.folder, 'host.env'),
    ];
    for (const { volume } of [a, b]) others.push(join(volume, 'network.json'));
    for (const file of others) expect(found.seen.get(file), file).toBeGreaterThan(0);
    const at = (host: DemoHost, kind: string) =>
      view.listeners.filter(
        ({ owner, kind: one, at: where }) => one === kind && where.includes(`${host.folder}/`) && owner,
      );
    for (const host of [a, b]) {
      expect(
        at(host, 'unix')
          .map(({ at: path }) => path.split('/').at(-1))
          .sort(),
      ).toEqual(['platform.sock', 'qmp.sock']);
    }
    // QEMU itself listens for what it forwards and for QMP; it has no other way in.
    const ofQemu = view.listeners.filter(({ owner }) => isQemu(owner));
    expect(ofQemu.map(({ kind }) => kind).sort()).toEqual([...Array<string>(6).fill('tcp'), 'unix', 'unix']);
    // Everything that was probed did answer: the ports in HTTP, the website over TLS, QMP in JSON, the simulated platform with its files.
    for (const { kind, at: where } of view.listeners) {
      expect(found.seen.get(`what ${kind} ${where} says`), where).toBeGreaterThan(50);
    }
    // The capture contains what a VM sends unencrypted, which shows that keys would be seen too.
    const clear = [...conversations(packets).values()].some((bytes) => bytes.includes('"eth_call"'));
    expect(clear).toBe(true);
  });

  test('a key that lies about would have been found', async () => {
    const planted = join(folder, 'a/planted.log');
    writeFileSync(planted, `{"level":30,"key":"${told.keys.witness}"}\n`);
    const again = new Search(search.patterns);
    await scanFiles(again, filesUnder(folder));
    rmSync(planted);
    expect(again.findings.hits.length).toBeGreaterThan(0);
    expect(
      again.findings.hits.every(
        (hit) => hit.startsWith("greeting's key witness as hex") && hit.endsWith(planted),
      ),
    ).toBe(true);
  });

  test('fills its disk: the app gets an error, the node and its page go on', {
    timeout: 900_000,
  }, async () => {
    const said = await ask(b.tlsPort, '/cgi-bin/fill.cgi');
    expect(said).toMatch(/Disk quota exceeded|No space left on device/);
    expect(said).not.toContain('it never ended');
    expect((await fetchPage(b.tlsPort))?.version).toBe('3');
    expect((await b.status()).state).toBe('joined');
    expect(JSON.parse(await ask(b.tlsPort, '/cgi-bin/tell.cgi')).file === told.file).toBe(true);
  });

  test('loses no acknowledged write when the power is cut under load', { timeout: 3_600_000 }, async () => {
    await ask(b.tlsPort, '/cgi-bin/load.cgi');
    const acknowledged = await waitFor(
      "some hundred records to be on B's disk",
      async () => {
        const last = Number(await ask(b.tlsPort, '/cgi-bin/acknowledged.cgi'));
        return last >= 100 ? last : undefined;
      },
      PATIENCE,
    );
    const qemu = descendants().find((one) => isQemu(one) && one.title.includes(b.disk))!;
    process.kill(qemu.pid, 'SIGKILL');
    expect(await b.ended()).toBe(1);
    await waitFor('node join to say why', async () => b.progress().includes('VM_ENDED') || undefined, 60);

    // By the other way in, and with quotes of the other version.
    await b.powerOn('join');
    await b.startRelay();
    await b.joined();
    await b.page('3');
    say(`disk of b opened in ${b.diskSeconds()} s after the power cut`);
    const after = JSON.parse(await ask(b.tlsPort, '/cgi-bin/tell.cgi'));
    expect(after.info.disk).toEqual({ state: 'ready', diskId: told.info.disk.diskId });
    expect(after.file === told.file).toBe(true);
    expect(after.secret === secret).toBe(true);
    expect(b.console()).not.toContain('"formatting"');
    const records = (await ask(b.tlsPort, '/cgi-bin/journal.cgi')).split('\n');
    const wanted = Array.from({ length: acknowledged }, (_, n) => `record ${n + 1} ${'0'.repeat(300)}`);
    say(`${acknowledged} records were acknowledged before the cut, ${records.length - 1} are on the disk`);
    expect(records.slice(0, acknowledged)).toEqual(wanted);
  });

  test('and its requests were judged with collateral, a quote of version 4 and one of version 5; both relays have what an audit reads', () => {
    const recorded = (host: DemoHost, type: string) =>
      readdirSync(host.archive)
        .filter((name) => name.startsWith(type))
        .map((name) => JSON.parse(readFileSync(join(host.archive, name), 'utf8')))
        .filter(({ collateral }) => collateral !== undefined)
        .map(({ quote }) => Buffer.from(quote, 'hex').readUInt16LE(0));
    expect(recorded(a, 'bootstrap-')).toContain(4);
    expect(recorded(a, 'request-')).toEqual(expect.arrayContaining([4, 5]));
    expect(recorded(b, 'request-')).toEqual(expect.arrayContaining([4, 5]));
  });
});

/** A visit of this node, which trusts the authority alone. @throws Error of its TLS */
const lookAt = ({ tlsPort }: Pick<DemoHost, 'tlsPort'>) =>
  visit(tlsPort, SITE_NAME, readFileSync(authority.rootFile, 'utf8'));

/** Visitors of the website by its name, one after the other, until they are told to leave. */
class Visitors {
  readonly serials = new Set<string>();
  readonly keys = new Set<string>();
  /** Since the first one was answered. */
  readonly failed: string[] = [];
  /** The certificate that that one was shown. */
  first: string | undefined;
  #visits = 0;
  #here = true;

  constructor() {
    void this.#come();
  }

  look() {
    return lookAt({ tlsPort: authority.road.tls.port });
  }

  leave(): void {
    this.#here = false;
  }

  says(): string {
    const last = this.failed.at(-1);
    return `${this.#visits} visits, ${this.failed.length} failed${last === undefined ? '' : ` (${last})`}, ${this.serials.size} certificates`;
  }

  async #come(): Promise<void> {
    while (this.#here) {
      this.#visits += 1;
      const began = performance.now();
      try {
        const { serial, tlsKey, status } = await this.look();
        if (status !== 200) this.failed.push(`HTTP ${status}`);
        else if (this.first === undefined) {
          this.first = serial;
          this.failed.length = 0;
        }
        this.serials.add(serial);
        this.keys.add(tlsKey);
      } catch (error) {
        const took = performance.now() - began;
        // A handshake that two starved machines have not finished by then is ended: nobody was turned away for the certificate.
        if (took < HANDSHAKE_ENDED)
          this.failed.push(`${(error as Error).message}, after ${Math.round(took)} ms`);
      }
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}

/** The config digest by which an archive is named, from the manifest beside it. */
function digest(archive: string): string {
  const manifest = readFileSync(
    join(a.volume, 'manifests', `${manifests[archives.indexOf(archive)]!.slice(2)}.json`),
    'utf8',
  );
  return /sha256:([0-9a-f]{64})/.exec(manifest)![1]!;
}

/** SHA-256 of the SubjectPublicKeyInfo of a P-256 key, as fetchPage gives it. */
function spkiHash(scalar: Buffer): string {
  const curve = createECDH('prime256v1');
  curve.setPrivateKey(scalar);
  // RFC 5480: the algorithm, then the uncompressed point.
  const header = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');
  return createHash('sha256').update(header).update(curve.getPublicKey()).digest('hex');
}
