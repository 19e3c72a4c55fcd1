/**
 * What the node's other daemons get: each has its own socket, which only it can open, with the routes that ../daemons.ts
 * gives it and no others. A call made before the node has joined is held until then.
 */
import { mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import type { Reached } from '../../lib/chain/chain-client.ts';
import { groupId } from '../../lib/daemon/groups.ts';
import type { Routes } from '../../lib/daemon/json-server.ts';
import { remembered } from '../../lib/daemon/remembered.ts';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { publicKeyOfApp } from '../../lib/protocol/app-keys.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';
import {
  AppAuthorityRequest,
  AppCertificateRequest,
  AppKeyRequest,
  AppQuoteRequest,
  AppSignatureRequest,
  AttestRequest,
  ChainCallRequest,
  DiskKeyRequest,
  ENVELOPE_MAX_BYTES,
  type InfoReply,
  LedgerEvidenceRequest,
  LedgerKeysRequest,
  OpenSecretRequest,
  RawQuoteRequest,
  SignerKeysRequest,
  SiteCaaRequest,
  SiteEvidenceRequest,
  type SiteRequestReply,
  StoreCertificateRequest,
} from '../../lib/protocol/sockets.ts';
import { type Daemon, daemons, groupOfSocket } from '../daemons.ts';
import {
  appCertificate,
  authorityCertificate,
  certificateData,
  requireUnreserved,
} from './app-certificate.ts';
import type { AppQuotes } from './app-quotes.ts';
import type { ChainReads } from './chain-reads.ts';
import type { KeyManager } from './key-manager.ts';
import type { LedgerWitness } from './ledger-evidence.ts';
import type { SiteWitness } from './site-evidence.ts';

/** A node that has joined: its keys, and what others may know about it. */
export interface Joined extends JoinedForApps {
  site: SiteWitness;
  ledgerEvidence: LedgerWitness;
  /** What an authority signs, for the names of network.json and no others. @throws NO_SITE when it has none */
  siteRequest(): SiteRequestReply;
  /** At which names network.json has clients of this app ask the store from outside. @throws NO_STORE_CLIENTS where it has none */
  storeNames(app: string): readonly string[];
}

/** The part of it that answers apps. */
export interface JoinedForApps {
  keys: KeyManager;
  info: InfoReply;
  quotes: AppQuotes;
  chain: ChainReads;
  /** The time by the chain's clock, Unix seconds: after an hour without a new block, nothing more is attested. @throws CHAIN_STALE */
  requireFresh(): number;
  /** The block and the time that this node has reached: its other reader must not start before them. */
  reached(): Reached;
}

/** @param root prefix of /etc/group; where a group is missing, only the replicator's own user may connect */
export async function serveSiblings(
  runDirectory: string,
  joined: Promise<Joined>,
  root: string,
  table: readonly Daemon[] = daemons,
): Promise<Server[]> {
  mkdirSync(join(runDirectory, 'replicator'), { recursive: true });
  const routes = keyRoutes(joined);
  const served = table.find(({ name }) => name === 'replicator')?.serves ?? [];
  return Promise.all(
    served.map(({ path, asker }) => {
      const group = groupOfSocket(path, table);
      return serveUnix({
        path: join(runDirectory, path),
        routes: routesOf(asker, table, routes),
        gid: group === undefined ? undefined : groupId(root, group),
        // The largest is an envelope, as a string within JSON.
        maxBodyBytes: 2 * ENVELOPE_MAX_BYTES,
      });
    }),
  );
}

/** Every route by which a key, or a signature made with one, leaves this process. */
function keyRoutes(joined: Promise<Joined>): Routes {
  return {
    'GET /v1/tls-key': async () => {
      const { keys } = await joined;
      return { epoch: keys.epoch, privateKey: toHex(keys.tlsKey()) };
    },
    'POST /v1/site-evidence': async (body) => {
      const { nonce } = check(SiteEvidenceRequest, body, 'BAD_REQUEST', 'the request for evidence');
      const { site } = await joined;
      return site.evidence(nonce === undefined ? undefined : fromHex(nonce, 32));
    },
    'GET /v1/acme-account-key': async () => {
      const { keys } = await joined;
      return { epoch: keys.epoch, privateKey: toHex(keys.acmeAccountKey()) };
    },
    'POST /v1/site-caa': async (body) => {
      const { hostImpersonable } = check(SiteCaaRequest, body, 'BAD_REQUEST', 'what was found in the DNS');
      const { site } = await joined;
      site.takeCaa(hostImpersonable);
    },
    // Nobody who asks has a say in the names.
    'GET /v1/site-request': async () => (await joined).siteRequest(),
    'POST /v1/disk-key': async (body) => {
      const { diskId, epoch } = check(DiskKeyRequest, body, 'BAD_REQUEST', 'the request for a disk key');
      const { keys } = await joined;
      const born = epoch ?? keys.epoch;
      return { epoch: born, key: toHex(keys.diskKey(fromHex(diskId), born)) };
    },
    'POST /v1/store-certificate': async (body) => {
      const { app, publicKey } = check(
        StoreCertificateRequest,
        body,
        'BAD_REQUEST',
        "the request for the store's certificate",
      );
      const { keys, requireFresh, storeNames } = await joined;
      // For the names of network.json and no others, and to serve: what asks can be nobody's client by it.
      const asked = {
        ...{ app, manifestHash: toHex(new Uint8Array(32)), subject: '', altNames: [...storeNames(app)] },
        ...{ serverAuth: true, clientAuth: false, named: false },
      };
      const certificate = appCertificate(keys, asked, fromHex(publicKey), undefined, requireFresh());
      return { chain: [certificate, authorityCertificate(keys, app)].map(toHex) };
    },
    'POST /v1/ledger-keys': async (body) => {
      const { log, epoch } = check(LedgerKeysRequest, body, 'BAD_REQUEST', "the request for a log's keys");
      const { keys } = await joined;
      const born = epoch ?? keys.epoch;
      const { seed, saltKey } = keys.ledgerKeys(fromHex(log, 16), born);
      return { epoch: born, seed: toHex(seed), saltKey: toHex(saltKey) };
    },
    'POST /v1/ledger-evidence': async (body) => {
      const asked = check(LedgerEvidenceRequest, body, 'BAD_REQUEST', "the request for a log's evidence");
      return (await joined).ledgerEvidence(fromHex(asked.log, 16), asked.epoch);
    },
    'POST /v1/signer-keys': async (body) => {
      const { chain, epoch } = check(
        SignerKeysRequest,
        body,
        'BAD_REQUEST',
        "the request for a signer's keys",
      );
      const { keys } = await joined;
      const born = epoch ?? keys.epoch;
      const { seed, identity } = keys.signerKeys(chain, born);
      return { epoch: born, seed: toHex(seed), identity: toHex(identity) };
    },
    'POST /v1/open-secret': async (body) => {
      const { app, name, envelope } = check(OpenSecretRequest, body, 'BAD_REQUEST', 'the secret to open');
      const { keys } = await joined;
      return { value: toHex(await keys.openSecret(app, name, utf8(envelope))) };
    },
    ...appRoutes(joined),
  };
}

/** Apps whose authority's certificate is remembered: it is the same each time, and takes longer to make than one by it. */
const AUTHORITIES = 256;

/** What apps get by the agent, and what the agent says of the node; the simulator of the command line serves these, too. */
export function appRoutes(joined: Promise<JoinedForApps>): Routes {
  const authorityOf = remembered(AUTHORITIES, async (app: string) =>
    authorityCertificate((await joined).keys, app),
  );
  return {
    'POST /v1/app-key': async (body) => {
      const asked = check(AppKeyRequest, body, 'BAD_REQUEST', 'the request for an app key');
      const { app, tag, type = 'raw', purpose = '' } = asked;
      const { keys } = await joined;
      const key = keys.appKey(app, tag, type);
      if (type === 'raw' || type === 'p256') return { key: toHex(key) };
      const publicKey = publicKeyOfApp(type, key);
      const chain = keys.keyChain(app, purpose, publicKey).map(toHex);
      return { key: toHex(key), publicKey: toHex(publicKey), chain };
    },
    'POST /v1/app-signature': async (body) => {
      const asked = check(AppSignatureRequest, body, 'BAD_REQUEST', 'the request for a signature');
      const { app, tag, purpose, algorithm, data } = asked;
      const { keys } = await joined;
      const { signature, publicKey } = keys.signAs(app, tag, algorithm, fromHex(data));
      const chain = keys.keyChain(app, purpose, publicKey).map(toHex);
      return { signature: toHex(signature), publicKey: toHex(publicKey), chain };
    },
    'POST /v1/app-quote': async (body) => {
      const asked = check(AppQuoteRequest, body, 'BAD_REQUEST', 'the request for a quote');
      const { quotes, requireFresh } = await joined;
      requireFresh();
      const data = fromHex(asked.data);
      requireUnreserved(data);
      return quotes.quote(asked.app, fromHex(asked.manifestHash), data);
    },
    'POST /v1/raw-quote': async (body) => {
      const { app, reportData } = check(RawQuoteRequest, body, 'BAD_REQUEST', 'the request for a raw quote');
      const { quotes, requireFresh } = await joined;
      requireFresh();
      return quotes.raw(app, fromHex(reportData));
    },
    'POST /v1/app-certificate': async (body) => {
      const asked = check(AppCertificateRequest, body, 'BAD_REQUEST', 'the request for a certificate');
      const { keys, quotes, requireFresh } = await joined;
      const now = requireFresh();
      const publicKey = fromHex(asked.publicKey);
      const quote = asked.quoted
        ? await quotes.quote(asked.app, fromHex(asked.manifestHash), certificateData(publicKey))
        : undefined;
      const certificate = appCertificate(keys, asked, publicKey, quote && fromHex(quote.quote), now);
      return { chain: [certificate, await authorityOf(asked.app)].map(toHex) };
    },
    'POST /v1/app-authority': async (body) => {
      const { app } = check(AppAuthorityRequest, body, 'BAD_REQUEST', "the request for an app's authority");
      return { certificate: toHex(await authorityOf(app)) };
    },
    'GET /v1/machine': async () => (await joined).quotes.machine(),
    'POST /v1/attest': async (body) => {
      const { app, tag, data } = check(AttestRequest, body, 'BAD_REQUEST', 'the request for an attestation');
      const { keys, requireFresh } = await joined;
      requireFresh();
      return { signature: toHex(keys.signAttestation(app, tag, fromHex(data))) };
    },
    'GET /v1/chain-head': async () => (await joined).chain.head(),
    'POST /v1/chain-call': async (body) => {
      const asked = check(ChainCallRequest, body, 'BAD_REQUEST', 'the call of a contract');
      return (await joined).chain.call(asked);
    },
    'GET /v1/info': async () => (await joined).info,
    'GET /v1/status': async () => {
      const { keys, reached } = await joined;
      return { joined: true, epoch: keys.epoch, reached: reached() };
    },
  };
}

/** The routes that the table gives one daemon. @throws DstackError ROUTE_UNKNOWN when the table names a route that does not exist */
export function routesOf(asker: string, table: readonly Daemon[], routes: Routes): Routes {
  const allowed = table.find(({ name }) => name === asker)?.keys ?? [];
  return Object.fromEntries(
    allowed.map((name) => {
      const route = routes[name];
      if (route === undefined)
        throw new DstackError('ROUTE_UNKNOWN', `${asker} is allowed ${name}, which no route answers`);
      return [name, route];
    }),
  );
}
