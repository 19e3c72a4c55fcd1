/**
 * Clients outside of the VM (docs/kv.md): network.json names, by app, at which name they ask and who certifies them. TLS ends in this process. By
 * the name that it asks for a client's app is found, and so its namespace; its certificate has to be signed by an authority of that app itself,
 * for its common name there has to be a user. Whatever is not known is refused: the code is in the log, since TLS tells a client little.
 */
import {
  constants,
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  X509Certificate,
} from 'node:crypto';
import type { Socket } from 'node:net';
import { createSecureContext, type SecureContext, type TLSSocket, type TlsOptions } from 'node:tls';
import { encodePem } from '../../lib/attestation/bytes/pem.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { StoreClients } from '../../lib/protocol/network-config.ts';
import type { StoreCertificateReply } from '../../lib/protocol/sockets.ts';
import type { ChainTime } from './chain-time.ts';
import type { Call, Caller } from './types.ts';

/** A certificate may be of a machine whose clock is ahead of the chain's. Seconds. */
const SKEW = 20 * 60;
/** For the whole handshake. Milliseconds. */
const HANDSHAKE_WITHIN = 10_000;
/** The store's own certificates are for a year; so often they are made anew, with new keys. Milliseconds. */
const RENEW_EVERY = 7 * 24 * 3_600_000;
/** While the replicator gives no certificate. Milliseconds. */
const ASK_AGAIN = 5_000;
/** Connections of all apps together; the front lets no more through (guest/tls/front-config.ts). Each app has its part of them. */
const CONNECTIONS = 500;
/** Between two lines of one code about one app. Milliseconds. */
const TOLD_EVERY = 60_000;

export interface ClientsOptions {
  readonly clients: Readonly<Record<string, StoreClients>>;
  /** @param publicKey SubjectPublicKeyInfo, hex */
  readonly certificate: (app: string, publicKey: string) => Promise<StoreCertificateReply>;
  readonly time: Pick<ChainTime, 'now'>;
  /** @throws RpcError for a call by nobody that the namespace knows */
  readonly requireUser: (call: Call) => Promise<void>;
  /** Of all apps together. */
  readonly connections?: number;
  readonly log: Log<'warn'>;
}

interface OpenedApp {
  readonly app: string;
  readonly authorities: readonly X509Certificate[];
  readonly revoked: ReadonlySet<string>;
  /** Undefined until the replicator has given a certificate. */
  context: SecureContext | undefined;
  /** PEM, for clients to trust. */
  root: string | undefined;
  /** Of those that were let in. */
  connections: number;
}

/** What a connection has shown. */
interface Shown {
  readonly opened: OpenedApp;
  readonly commonName: string;
  readonly shown: X509Certificate;
  /** Of the app's authorities those that signed it. */
  readonly issuers: readonly X509Certificate[];
}

export class Clients {
  readonly #options: ClientsOptions;
  readonly #byApp = new Map<string, OpenedApp>();
  readonly #byName = new Map<string, OpenedApp>();
  readonly #told = new Map<string, number>();
  readonly #shown = new WeakMap<Socket, Shown>();
  /** Connections that an app's clients may have, whatever those of the others do. */
  readonly #perApp: number;

  constructor(options: ClientsOptions) {
    this.#options = options;
    const { connections = CONNECTIONS } = options;
    this.#perApp = Math.floor(connections / Math.max(1, Object.keys(options.clients).length));
    for (const [app, { names, authorities, revokedKeys = [] }] of Object.entries(options.clients)) {
      const opened: OpenedApp = {
        app,
        authorities: authorities.map((pem) => new X509Certificate(pem)),
        revoked: new Set(revokedKeys),
        context: undefined,
        root: undefined,
        connections: 0,
      };
      this.#byApp.set(app, opened);
      for (const name of names) this.#byName.set(name, opened);
      void this.#certify(opened);
      setInterval(() => void this.#certify(opened), RENEW_EVERY).unref();
    }
  }

  /** What the clients of an app have to trust, PEM; undefined where it has none, or there is none yet. */
  rootOf(app: string): string | undefined {
    return this.#byApp.get(app)?.root;
  }

  /**
   * For the door. It has no certificate but by a name of network.json, so that whoever asks for none, or another, gets no further. No session is
   * ever taken up again: each connection shows its certificate.
   */
  tls(): TlsOptions {
    return {
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: HANDSHAKE_WITHIN,
      secureOptions: constants.SSL_OP_NO_TICKET,
      SNICallback: (name, found) => {
        const opened = this.#byName.get(name.toLowerCase());
        if (opened?.context !== undefined) found(null, opened.context);
        else found(new DstackError('STORE_CLIENT_NOWHERE', 'no app is open at the name that is asked for'));
      },
    };
  }

  /** @throws STORE_CLIENT_*, CHAIN_STALE, and RpcError for a name that is no user's */
  async callerOf(socket: Socket): Promise<Caller> {
    const opened = this.#appOf(socket);
    try {
      const caller = await this.#identify(socket);
      this.#count(socket, opened!);
      return caller;
    } catch (error) {
      this.#tell(opened?.app ?? '', error as Error);
      throw error;
    }
  }

  /** Whether it is still so: in time by the chain's clock, and a user's. */
  async isStill(socket: Socket): Promise<boolean> {
    try {
      await this.#identify(socket);
      return true;
    } catch (error) {
      this.#tell(this.#appOf(socket)?.app ?? '', error as Error);
      return false;
    }
  }

  /** Of the connections there are each app has its part: who has a certificate of one does not keep out the clients of another. */
  #count(socket: Socket, opened: OpenedApp): void {
    if (opened.connections >= this.#perApp)
      throw new DstackError(
        'STORE_CLIENT_CONNECTIONS',
        `clients of ${opened.app} have the ${this.#perApp} connections that an app may have`,
      );
    if (socket.destroyed) return;
    opened.connections += 1;
    socket.once('close', () => {
      opened.connections -= 1;
    });
  }

  async #identify(socket: Socket): Promise<Caller> {
    const { opened, commonName, shown, issuers } = this.#shownOn(socket);
    this.#requireInTime(shown, issuers);
    const { app } = opened;
    const caller = { prefix: utf8(`a/${app}/`), name: app, owner: false, commonName, outside: true };
    const signal = new AbortController().signal;
    try {
      await this.#options.requireUser({ caller, token: undefined, signal, deadline: undefined });
    } catch (cause) {
      const why = `${commonName} is no user of ${app}, or ${app} has no users (etcdctl user add, auth enable)`;
      throw new DstackError('STORE_CLIENT_USER', why, { cause });
    }
    return caller;
  }

  #appOf(socket: Socket): OpenedApp | undefined {
    const { servername } = socket as TLSSocket & { servername?: string | false | null };
    return typeof servername === 'string' ? this.#byName.get(servername.toLowerCase()) : undefined;
  }

  /** Judged once: a connection has one handshake, and it is looked at every two seconds. */
  #shownOn(socket: Socket): Shown {
    const known = this.#shown.get(socket) ?? this.#judge(socket as TLSSocket);
    this.#shown.set(socket, known);
    return known;
  }

  /**
   * The certificate that was shown. OpenSSL has verified it, by the machine's clock, which is the host's, and by whatever certificates came
   * along: so it is judged once more, by what network.json says alone.
   */
  #judge(socket: TLSSocket): Shown {
    const opened = this.#appOf(socket);
    if (!socket.authorized || opened === undefined)
      throw new DstackError('STORE_CLIENT_NOWHERE', 'it asks for no name of network.json');
    const shown = socket.getPeerX509Certificate();
    if (shown === undefined) throw new DstackError('STORE_CLIENT_ISSUER', 'there is no certificate');
    const { authorities, revoked } = opened;
    // Several, where an authority has a certificate anew for its key.
    const issuers = authorities.filter((one) => shown.checkIssued(one) && shown.verify(one.publicKey));
    if (issuers.length === 0)
      throw new DstackError(
        'STORE_CLIENT_ISSUER',
        "the certificate is not signed by one of the app's authorities itself",
      );
    if (revoked.has(hashOf(shown.publicKey)))
      throw new DstackError('STORE_CLIENT_REVOKED', 'the key of the certificate is one that was revoked');
    const { CN: commonName } = socket.getPeerCertificate().subject as { CN?: unknown };
    // Of several a client could mean one, and its authority another.
    if (typeof commonName !== 'string' || !/^[ -~]{1,64}$/.test(commonName))
      throw new DstackError(
        'STORE_CLIENT_NAME',
        'the certificate has no common name of 1 to 64 characters of ASCII',
      );
    return { opened, commonName, shown, issuers };
  }

  /** @throws CHAIN_STALE, STORE_CLIENT_TIME */
  #requireInTime(shown: X509Certificate, issuers: readonly X509Certificate[]): void {
    const now = this.#options.time.now();
    if (now === undefined)
      throw new DstackError(
        'CHAIN_STALE',
        "the chain's time is not known, and so not whether the certificate is still one",
      );
    if (!isInTime(shown, now) || !issuers.some((issuer) => isInTime(issuer, now)))
      throw new DstackError(
        'STORE_CLIENT_TIME',
        "by the chain's time the certificate, or its authority's, is not yet, or no longer, one",
      );
  }

  /** A new key, and a certificate for it; asked for until there is one. */
  async #certify(opened: OpenedApp): Promise<void> {
    const { app, authorities } = opened;
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    try {
      const spki = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }));
      const { chain } = await this.#options.certificate(app, toHex(spki));
      const [own, root] = chain.map((hex) => encodePem(fromHex(hex))) as [string, string];
      opened.context = createSecureContext({
        key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
        cert: own,
        ca: authorities.map((authority) => authority.toString()),
        // One that is named counts also where it is not its own issuer.
        allowPartialTrustChain: true,
        minVersion: 'TLSv1.2',
        secureOptions: constants.SSL_OP_NO_TICKET,
      });
      opened.root = root;
    } catch (error) {
      this.#tell(app, error as Error);
      setTimeout(() => void this.#certify(opened), ASK_AGAIN).unref();
    }
  }

  #tell(app: string, error: Error): void {
    const code = codeOf(error);
    const [key, now] = [`${app} ${code}`, performance.now()];
    if (now - (this.#told.get(key) ?? Number.NEGATIVE_INFINITY) < TOLD_EVERY) return;
    this.#told.set(key, now);
    this.#options.log.warn({ app, code }, `a client outside is refused: ${error.message}`);
  }
}

function isInTime({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() / 1000 <= now + SKEW && validToDate.getTime() / 1000 >= now;
}

/**
 * SHA-256 of the SubjectPublicKeyInfo. A key is taken in its usual encoding alone, since it is known by this hash: a point of a curve can be
 * written in three ways, a modulus as a key of RSA or of RSASSA-PSS, and who has a revoked key could have it certified in another.
 * @throws STORE_CLIENT_KEY
 */
function hashOf(key: KeyObject): string {
  const shown = key.export({ type: 'spki', format: 'der' });
  if (!usualOf(key)?.equals(shown))
    throw new DstackError(
      'STORE_CLIENT_KEY',
      'the key of the certificate is not written as one is: RSA, Ed25519, or a named curve with an uncompressed point',
    );
  return createHash('sha256').update(shown).digest('hex');
}

/** Of the numbers that the key is; undefined for a kind of key without such a form. */
function usualOf(key: KeyObject): Buffer | undefined {
  try {
    const numbers = { key: key.export({ format: 'jwk' }), format: 'jwk' } as const;
    return createPublicKey(numbers).export({ type: 'spki', format: 'der' });
  } catch {
    return undefined;
  }
}
