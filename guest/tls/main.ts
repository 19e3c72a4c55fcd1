/**
 * The TLS daemon: holds the site's key, and drives the front. `--root DIR` puts /run, /usr and /etc below DIR, for tests
 * without a VM; HAProxy is then the test's to start, by front-config.ts with the same folders.
 */
import { generateKeyPairSync } from 'node:crypto';
import { chownSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { groupId } from '../../lib/daemon/groups.ts';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import { callUnix, listenUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseNetworkConfig, type SiteConfig } from '../../lib/protocol/network-config.ts';
import { Strict } from '../../lib/protocol/schema.ts';
import { EVIDENCE_PATH, type SiteEvidence, SiteEvidenceSchema } from '../../lib/protocol/site-evidence.ts';
import {
  AcmeSite,
  sockets,
  TakenReply,
  TlsKeyReply,
  UpstreamReply,
  type Upstreams,
} from '../../lib/protocol/sockets.ts';
import { groupOfSocket } from '../daemons.ts';
import { answersServer } from './answers.ts';
import { type Credentials, selfSigned } from './certificate.ts';
import { certificatePaths } from './certificate-paths.ts';
import { evidenceHandler } from './evidence.ts';
import { Front } from './front.ts';
import { imageFront, PLACEHOLDER } from './front-config.ts';
import {
  certificateOf,
  frontState,
  isOurs,
  Leads,
  reasonAt,
  reasonsOf,
  type Silence,
  silenceOf,
  type Told,
} from './front-state.ts';
import { nodePaths } from './node-paths.ts';

const { values: flags } = parseArgs({ options: { root: { type: 'string', default: '/' } } });
const log = pino({ name: 'tls' });
const at = (path: string): string => join(flags.root, path);
const acmeSocket = at(join('run/dstack', sockets.acmeForTls));
const FOR_EVER = 24 * 3600 * 1000;
/** On TDX a quote takes seconds, and is tried again while the host is busy. Milliseconds. */
const QUOTED_WITHIN = 95_000;
/** How often the others are asked what the front should be, and told when it is another. Milliseconds. */
const LOOK_EVERY = 1_000;
/** After so many looks the front is compared with it all the same: a dozen commands, a good part of a processor under emulation. */
const COMPARE_EVERY = 10;
/** What there is to say where network.json names no website: nothing is asked then. */
const NO_SITE: AcmeSite = { alpn: [], status: { state: 'brought', hostImpersonable: true } };

await main();

async function main(): Promise<void> {
  // Held back by the replicator until the node has joined: before that there is no key, and nothing listens.
  const { epoch, privateKey } = await callUnix({
    path: at(join('run/dstack', sockets.replicatorForTls)),
    method: 'GET',
    route: '/v1/tls-key',
    reply: TlsKeyReply,
    connectWithin: FOR_EVER,
  });
  const image = readImageInfo(flags.root);
  const network = parseNetworkConfig(readFileSync(at('run/dstack/network.json')), image.flavour);
  const facts = { chainId: network.chainId, contract: network.contract, builtAt: image.builtAt };
  const credentials = selfSigned({
    ...facts,
    privateKey: fromHex(privateKey, 32),
  });
  let led: Upstreams | undefined;
  let site: AcmeSite | undefined = network.site === undefined ? NO_SITE : undefined;
  const gid = groupId(flags.root, groupOfSocket(sockets.tlsForFront)!);
  mkdirSync(at('run/dstack/tls'), { recursive: true });
  const node = nodePaths({
    [EVIDENCE_PATH]: evidenceHandler({ log, ask: evidence }),
    ...certificatePaths({ site: () => site, give }),
  });
  await listenUnix(answersServer({ reason: (host) => reasonAt(host, led), node }), {
    path: at(join('run/dstack', sockets.tlsForFront)),
    gid,
  });
  writePlaceholder(selfSigned({ ...facts, privateKey: throwAwayKey() }), gid);
  log.info({ epoch, certificate: credentials.fingerprint }, "has the site's key");
  await drive(credentials, network.site, (leads, said) => {
    led = leads;
    site = said ?? site;
  });
}

function evidence(nonce?: string): Promise<SiteEvidence> {
  return callUnix({
    path: at(join('run/dstack', sockets.replicatorForTls)),
    method: 'POST',
    route: '/v1/site-evidence',
    body: nonce === undefined ? {} : { nonce },
    reply: SiteEvidenceSchema,
    timeout: QUOTED_WITHIN,
  });
}

/** What acme says of the certificate; nothing while it is away. */
async function askAcme(): Promise<AcmeSite | undefined> {
  return callUnix({
    path: acmeSocket,
    method: 'GET',
    route: '/v1/site',
    reply: AcmeSite,
    timeout: 3_000,
  }).catch(() => undefined);
}

/** An order waits for this: the authority asks once. What acme does not hear now, it hears with the next look. */
async function tellShown(site: AcmeSite): Promise<void> {
  const body = { certificates: site.alpn.map(({ certificate }) => toHex(sha256(utf8(certificate)))) };
  const route = '/v1/shown';
  await callUnix({ path: acmeSocket, method: 'POST', route, body, reply: Strict({}), timeout: 3_000 }).catch(
    () => undefined,
  );
}

/** @throws CERT_*, SOCKET_* */
async function give(chain: string): Promise<void> {
  const body = { chain };
  const route = '/v1/certificate';
  await callUnix({ path: acmeSocket, method: 'POST', route, body, reply: TakenReply, timeout: 10_000 });
}

/** HAProxy starts when it is there; it is never shown to anybody, and its key is worth nothing. */
function writePlaceholder(credentials: Credentials, gid: number | undefined): void {
  const file = at(join('run/dstack', PLACEHOLDER));
  const { chain, key } = certificateOf({ credentials, site: undefined });
  writeFileSync(`${file}.new`, chain + key, { mode: 0o640 });
  if (gid !== undefined) chownSync(`${file}.new`, -1, gid);
  renameSync(`${file}.new`, file);
}

function throwAwayKey(): Uint8Array {
  const { d } = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
  return new Uint8Array(Buffer.from(d!, 'base64url'));
}

/** Keeps the front like what kubernethes and acme say, for ever. Whoever of them starts again is told all of it again. */
async function drive(
  credentials: Credentials,
  site: SiteConfig | undefined,
  explain: (led: Upstreams | undefined, acme: AcmeSite | undefined) => void,
): Promise<void> {
  const front = new Front({
    ...imageFront,
    control: at(imageFront.control),
    placeholder: at(imageFront.placeholder),
    folder: at(imageFront.folder),
  });
  let said = '';
  // What is logged is that something changed: strangers can't fill the log, nor can an app that comes and goes within a look.
  const say = (problem: string) => {
    if (problem !== '' && problem !== said) log.warn(problem);
    said = problem;
  };
  let acme: AcmeSite | undefined;
  const lead = new Leads(() => performance.now());
  let settled: string | undefined;
  /** Of kubernethes' last answer that the front is like. */
  let done: string | undefined;
  for (let look = 0; ; look++) {
    const [leads, answer] = await Promise.all([upstream(done), site === undefined ? undefined : askAcme()]);
    // One that is away changes nothing.
    acme = answer ?? acme;
    const led = lead.heard(typeof leads === 'string' ? leads : leads.led);
    explain(led, acme);
    const told = { credentials, site, upstream: led, acme };
    const reasons = reasonsOf(led);
    const now = JSON.stringify([startOfFront(), led, acme]);
    if (now !== settled || look % COMPARE_EVERY === 0) {
      settled = undefined;
      try {
        const { changed, problem } = await apply(front, told);
        if (changed.length > 0) log.info({ changed, certificate: credentials.fingerprint }, 'listening');
        say(problem ?? reasons);
        if (problem === undefined) settled = now;
        done = typeof leads === 'string' ? undefined : leads.turn;
      } catch (error) {
        say(`the front is not as it should be (${codeOf(error)}): ${(error as Error).message}`);
      }
    } else {
      say(reasons);
      done = typeof leads === 'string' ? undefined : leads.turn;
    }
    if (settled === now && acme !== undefined && acme.alpn.length > 0) await tellShown(acme);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
}

/** Another value for each start of HAProxy, which makes its socket anew then. */
function startOfFront(): string | undefined {
  const found = statSync(at(imageFront.control), { throwIfNoEntry: false });
  return found && `${found.ino} ${found.ctimeMs}`;
}

/** A chain that can't be shown costs the visitors nothing but that chain. */
async function apply(front: Front, told: Told): Promise<{ changed: string[]; problem?: string }> {
  const chain = told.acme?.chain;
  if (chain !== undefined && !isOurs(chain, told.credentials)) {
    const problem = "acme has a chain for another key than the site's: it is not shown";
    return { changed: await front.apply(frontState(told)), problem };
  }
  try {
    return { changed: await front.apply(frontState(told)) };
  } catch (error) {
    if (told.acme === undefined || codeOf(error) === 'FRONT_UNREACHABLE') throw error;
    const problem = `the front does not take what acme has (${codeOf(error)}): ${(error as Error).message}`;
    return { changed: await front.apply(frontState({ ...told, acme: undefined })), problem };
  }
}

/**
 * Where requests from outside go, or why kubernethes does not say it.
 * @param done the turn that the front is like by now: kubernethes waits for that before it stops what was led to before
 */
async function upstream(
  done: string | undefined,
): Promise<{ readonly turn: string; readonly led: Upstreams } | Silence> {
  const reply = callUnix({
    path: at(join('run/dstack', sockets.kubernethesForTls)),
    method: 'POST',
    route: '/v1/upstream',
    body: done === undefined ? {} : { done },
    reply: UpstreamReply,
    timeout: 10_000,
  });
  return reply.then(({ turn, ...led }) => ({ turn, led }), silenceOf);
}
