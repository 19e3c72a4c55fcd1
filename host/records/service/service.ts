/** A node that runs: its records, its connections to other nodes, and its API. What it does is in the folders' own files; here they are put together. */
import type { FastifyInstance } from 'fastify';
import type { Log } from '../../../lib/daemon/log.ts';
import { fromHex, toHex } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { encodeRecord } from '../../../lib/protocol/records/codec.ts';
import { recordId } from '../../../lib/protocol/records/identity.ts';
import { draftRecord, signRecord } from '../../../lib/protocol/records/make.ts';
import { publicKeyOfSeed } from '../../../lib/protocol/records/strict-ed25519.ts';
import { type OwnDraft, RecordsNode } from '../node.ts';
import { RecordWire, type WireEvent } from '../wire/wire.ts';
import { apiServer } from './api.ts';
import { parseGenesis } from './genesis-file.ts';
import {
  createHome,
  forgetRunning,
  hasRecords,
  identityOf,
  keepPeer,
  noteRunning,
  type PeerAddress,
  peersOf,
  requireOwnDisk,
  requireSameSecret,
  secretOf,
  tokenOf,
} from './home.ts';
import type { StatusReply } from './messages.ts';
import { Oracle } from './oracle.ts';
import { permitFor } from './permits.ts';
import { NetworkWords } from './words.ts';
import { doWork, type WorkOptions } from './work.ts';

/** Milliseconds within which a comparison with a peer has to be for what came since to be judged by it. */
const FRESH = 120_000;
/** Milliseconds between two lines about records that came in. */
const PROGRESS = 5_000;
/** Milliseconds between two times that old values are thrown away. */
const DISCARD_EVERY = 86_400_000;

export interface Place {
  readonly host: string;
  readonly port: number;
}

export interface ServiceOptions {
  readonly folder: string;
  /** Where other nodes connect; absent: nowhere, and none is dialled. */
  readonly listen?: Place;
  readonly http: Place;
  /** Names under which the API is asked, besides addresses and localhost. */
  readonly names?: readonly string[];
  /** The network, for a folder without records; what is there must be of it. */
  readonly genesis?: Uint8Array;
  readonly secret?: Uint8Array;
  /** The seed of an owner that publishes what this node suspects. */
  readonly oracle?: Uint8Array;
  /** Milliseconds: values that their owners have replaced, and that are older, are thrown away at the start and once a day. */
  readonly discardAfter?: number;
  readonly log: Log<'info' | 'warn' | 'error'>;
}

export interface MakeOptions extends WorkOptions {
  readonly noWork?: boolean;
}

export class RecordsService {
  readonly node: RecordsNode;
  readonly #options: ServiceOptions;
  readonly #wire: RecordWire | undefined;
  readonly #key: string;
  readonly #secret: Uint8Array | undefined;
  readonly #words: NetworkWords;
  readonly #dialled = new Map<string, PeerAddress>();
  readonly #closing = new AbortController();
  #oracle: Oracle | undefined;
  #wirePort: number | undefined;
  #api: FastifyInstance | undefined;
  #url = '';
  #discarding: NodeJS.Timeout | undefined;

  private constructor(
    node: RecordsNode,
    options: ServiceOptions,
    own: { wire: RecordWire | undefined; key: string; secret: Uint8Array | undefined },
  ) {
    this.node = node;
    this.#words = new NetworkWords(node);
    this.#options = options;
    this.#wire = own.wire;
    this.#key = own.key;
    this.#secret = own.secret;
  }

  /**
   * Resolves once it listens.
   * @throws RECORDS_NO_NETWORK, RECORDS_NETWORK_OTHER, RECORDS_GENESIS, RECORDS_SECRET, RECORDS_SHARE, RECORDS_LISTEN, KEY_FILE, RECORDS_PEERS; what
   *   `RecordsNode.open` throws
   */
  static async start(options: ServiceOptions): Promise<RecordsService> {
    const { folder, log } = options;
    prepare(options);
    const identity = identityOf(folder);
    const secret = secretOf(folder);
    let service: RecordsService | undefined;
    const node = await RecordsNode.open(folder, {
      log,
      isSynchronised: () => service?.isSynchronised ?? true,
    });
    try {
      const wire =
        options.listen &&
        new RecordWire({
          store: node,
          staticKey: identity,
          ...(secret && { secret }),
          onEvent: (event) => tell(log, event),
        });
      service = new RecordsService(node, options, { wire, key: toHex(identity.publicKey), secret });
      await service.#open();
      return service;
    } catch (error) {
      await service?.close();
      await node.close();
      throw error;
    }
  }

  /** The base URL of its API, for programs of this machine. */
  get url(): string {
    return this.#url;
  }

  get wire(): { readonly key: string; readonly port: number } | undefined {
    return this.#wirePort === undefined ? undefined : { key: this.#key, port: this.#wirePort };
  }

  get secret(): Uint8Array | undefined {
    return this.#secret;
  }

  /** Whether this node has all that its peers have; with nobody to compare with, it has. */
  get isSynchronised(): boolean {
    if (this.#wire === undefined || (this.#dialled.size === 0 && this.#wire.peers.length === 0)) return true;
    return this.#wire.isSynchronised(1, FRESH);
  }

  /** @param isWhole with the addresses of peers, which are not for everybody */
  status(isWhole: boolean): StatusReply {
    const { node } = this;
    const peers = this.#wire?.peers ?? [];
    const { stopped } = node;
    return {
      version: 1,
      network: node.network as StatusReply['network'],
      ...this.#words.words,
      records: node.count,
      isPrivate: this.#secret !== undefined,
      isSynchronised: this.isSynchronised,
      lacking: this.#wire?.lacking ?? 0,
      waiting: node.waiting().length,
      stopped: stopped === undefined ? null : { code: stopped.code, message: stopped.message.slice(0, 500) },
      wire: (this.wire ?? null) as StatusReply['wire'],
      peers: peers.length,
      ...(isWhole && {
        connections: peers.map(({ key, address, isDialled, since, last }) => ({
          key: key as PeerAddress['key'],
          address,
          isDialled,
          since,
          last:
            last === undefined
              ? null
              : { age: last.age, missingHere: last.missingHere, missingThere: last.missingThere },
        })),
        dialled: [...this.#dialled.values()],
      }),
    };
  }

  /** Dials a peer now and whenever it is not connected, after the next start too. @throws RECORDS_PEERS, RECORDS_NO_WIRE */
  connect(peer: PeerAddress): void {
    if (this.#wire === undefined) {
      throw new DstackError(
        'RECORDS_NO_WIRE',
        'this node connects to no other: start it without --localtest',
      );
    }
    if (peer.key === this.#key) {
      throw new DstackError('RECORDS_PEERS', 'this is the key of this very node; give the other one’s');
    }
    keepPeer(this.#options.folder, peer);
    this.#dial(peer);
  }

  /**
   * Makes a record of now and adds it.
   * @returns its identity
   * @throws RECORDS_PERMIT, RECORDS_LINKS, RECORD_WORK_CANCELLED; what the record is refused for
   */
  async make(draft: OwnDraft, ownerSeed: Uint8Array, options: MakeOptions = {}): Promise<string> {
    const { node } = this;
    const timestamp = Date.now();
    const links = node.linksFor(timestamp).map((id) => fromHex(id));
    const owner = publicKeyOfSeed(ownerSeed);
    const drafted = draftRecord({ ...draft, timestamp, links }, owner);
    const signal = AbortSignal.any([this.#closing.signal, ...(options.signal ? [options.signal] : [])]);
    const permit = await permitFor(drafted, node.genesis, {
      certificates: node.certificatesFor(owner, timestamp),
      work: options.noWork
        ? undefined
        : (seed, difficulty) => doWork(seed, difficulty, { ...options, signal }),
    });
    const record = signRecord(drafted, permit, ownerSeed);
    const verdict = await node.add(encodeRecord(record), '');
    if (verdict.kind === 'refused') throw new DstackError(verdict.code, verdict.message);
    return toHex(recordId(record));
  }

  /** Once what is being written is on the disk. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#discarding);
    await this.#api?.close();
    await this.#wire?.stop();
    await this.#oracle?.stop();
    await this.node.close();
    if (this.#url !== '') forgetRunning(this.#options.folder);
  }

  async #open(): Promise<void> {
    const { folder, listen, http, genesis, oracle, log, names = [] } = this.#options;
    await this.#addFirst(genesis);
    if (oracle !== undefined) this.#oracle = new Oracle(this.node, (draft) => this.make(draft, oracle), log);
    this.#watch();
    await this.#discardOld();
    if (this.#wire !== undefined && listen !== undefined) {
      this.#wirePort = await this.#wire
        .listen(listen.host, listen.port)
        .catch((cause) => noPlace(listen, cause));
      for (const peer of peersOf(folder)) this.#dial(peer);
    }
    this.#api = apiServer(this, { token: tokenOf(folder), names, log });
    const address = await this.#api.listen(http).catch((cause) => noPlace(http, cause));
    this.#url = address.replace(/\/\/(0\.0\.0\.0|\[::\]):/, '//127.0.0.1:');
    noteRunning(folder, {
      pid: process.pid,
      network: this.node.network as PeerAddress['key'],
      url: this.#url,
    });
  }

  /** What its founder wrote behind genesis, for a node that nobody else has given it yet. */
  async #addFirst(genesis: Uint8Array | undefined): Promise<void> {
    if (genesis === undefined) return;
    const { genesis: other, records } = parseGenesis(genesis);
    if (toHex(other.id) !== this.node.network) {
      throw new DstackError(
        'RECORDS_NETWORK_OTHER',
        `${this.#options.folder} has records of network ${this.node.network}, not of ${toHex(other.id)}; use another folder for that`,
      );
    }
    for (const record of records) await this.node.add(record, '');
  }

  /** Now, and then once a day. Where it fails, the node goes on with what it has. */
  async #discardOld(): Promise<void> {
    const { discardAfter, log } = this.#options;
    if (discardAfter === undefined) return;
    const discard = async () => {
      try {
        const { discarded, before, after } = await this.node.prune({ before: Date.now() - discardAfter });
        if (discarded > 0) log.info({ discarded, before, after }, 'old values were thrown away');
      } catch (error) {
        log.warn({ err: error }, 'old values could not be thrown away');
      }
    };
    await discard();
    this.#discarding = setInterval(() => void discard(), DISCARD_EVERY).unref();
  }

  #dial(peer: PeerAddress): void {
    const old = this.#dialled.get(peer.key);
    this.#dialled.set(peer.key, peer);
    if (old?.host === peer.host && old.port === peer.port) return;
    this.#wire!.dial(peer);
  }

  #watch(): void {
    let told = 0;
    let fresh = 0;
    this.node.subscribe((items) => {
      fresh += items.length;
      const now = performance.now();
      if (now - told < PROGRESS) return;
      const lacking = this.#wire?.lacking ?? 0;
      this.#options.log.info({ new: fresh, records: this.node.count, lacking }, 'records came in');
      told = now;
      fresh = 0;
    });
  }
}

/** The folder, with records of the network that is asked for. */
function prepare({ folder, genesis, secret }: ServiceOptions): void {
  if (!hasRecords(folder)) {
    if (genesis === undefined) {
      throw new DstackError(
        'RECORDS_NO_NETWORK',
        `there is no network in ${folder}; give its genesis, take it from a node (\`records node bootstrap URL\`), or make one (\`records genesis make\`)`,
      );
    }
    createHome(folder, genesis, secret);
  } else if (secret !== undefined) requireSameSecret(folder, secret);
  requireOwnDisk(folder);
}

function noPlace({ host, port }: Place, cause: unknown): never {
  throw new DstackError(
    'RECORDS_LISTEN',
    `nothing can listen at ${host}:${port} (${(cause as NodeJS.ErrnoException).code}); choose another place`,
    { cause },
  );
}

function tell(log: Log<'info' | 'warn'>, { kind, address, key, code }: WireEvent): void {
  const fields = { address, ...(key && { key }), ...(code && { code }) };
  if (kind === 'connected') log.info(fields, 'a peer is connected');
  else if (kind === 'ended') log.info(fields, 'a connection ended');
  else log.warn(fields, 'a connection was turned away');
}
