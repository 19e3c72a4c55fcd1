/**
 * Carries gossip as calldata of transactions on the network's own chain: for hosts that reach nothing but an RPC endpoint. README.md of this folder
 * has who pays what, and what a stranger can make relays read.
 *
 *     chain ─► finder: which there are ─► reader: so many, fairly ─► Exchange.accept
 *     log, own node ─► sender: what somebody waits for, once ─► Transactions
 */
import type { Log } from '../../../lib/daemon/log.ts';
import type { Store } from '../../../lib/framework/store.ts';
import type { Transactions } from '../../../lib/framework/transactions/transactions.ts';
import { codeOf, messageOf } from '../../../lib/protocol/errors.ts';
import type { Domain } from '../../../lib/protocol/typed-data.ts';
import type { Carrier, Exchange, Figure, PeerStatus } from '../carrier.ts';
import { pausing } from '../pausing.ts';
import { PublicationFinder } from './finder.ts';
import { Ledger } from './ledger.ts';
import { Publications, type PublicationsRpc } from './publications.ts';
import { PublicationReader } from './reader.ts';
import { type OwnRequest, PublicationSender } from './sender.ts';

export interface CalldataSettings {
  /** Blocks after which the own node's request is published, if nothing else has brought an answer. */
  after: number;
}

/** What the chain's part of a host has for it. */
export interface CalldataChain {
  rpc: PublicationsRpc;
  transactions: Pick<Transactions, 'submit' | 'status' | 'address'>;
  /** Nodes that the network has, as far as this host knows. */
  nodes(): number;
  /** Blocks for which a request is open. */
  requestWindow(): Promise<number>;
  own(): OwnRequest | undefined;
  /** Whether a subject is a request of this host's own node, be it the one of now. */
  isOwn(subject: string): boolean;
  /** Milliseconds between looks at the chain, where its own pace is not known. */
  pollMs: number;
}

export interface CalldataCarrierOptions extends CalldataSettings {
  domain: Domain;
  chain: CalldataChain;
  store: Store;
  log: Log;
  /** What a source did against the rules, for the metrics. */
  onCharge?: (source: string, code: string) => void;
}

/** Open requests that are followed: those that are open longest. */
const MAX_SUBJECTS = 1_024;
/** Heads between looks at what the ledger need not keep. */
const PRUNE_HEADS = 256;

export class CalldataCarrier implements Carrier {
  /** Nobody is chosen here: who publishes pays. */
  readonly peers: readonly string[] = [];
  readonly #options: CalldataCarrierOptions;
  readonly #closing = new AbortController();
  readonly #finder: PublicationFinder;
  readonly #ledger: Ledger;
  readonly #publications: Publications;
  #exchange!: Exchange;
  #reader!: PublicationReader;
  #sender!: PublicationSender;
  #lookedAt = { hash: '', last: -1, own: '' };
  #open: ReadonlySet<string> = new Set();
  #problem = '';
  #loop: Promise<void> | undefined;

  constructor(options: CalldataCarrierOptions) {
    this.#options = options;
    this.#publications = new Publications(options.chain.rpc);
    this.#finder = new PublicationFinder(this.#publications);
    this.#ledger = new Ledger(options.store);
  }

  attach(exchange: Exchange): void {
    const { chain, domain, after, log, onCharge = () => {} } = this.#options;
    const { transactions } = chain;
    const [publications, ledger] = [this.#publications, this.#ledger];
    this.#exchange = exchange;
    this.#reader = new PublicationReader({
      exchange,
      publications,
      ledger,
      own: transactions.address,
      onUseless: (code, publisher) => onCharge(`calldata/${publisher.toLowerCase()}`, code),
    });
    const { contract } = domain;
    this.#sender = new PublicationSender({
      ...{ exchange, publications, ledger, transactions, contract, after, log },
      reader: this.#reader,
      nodes: () => chain.nodes(),
      isOwn: (subject) => chain.isOwn(subject),
    });
  }

  start(): void {
    if (this.#loop !== undefined) return;
    const { after, log } = this.#options;
    const costs = 'about 200,000 gas; an answer to a request of another that comes so, about 120,000';
    log.info(
      { after },
      `a request without an answer is published as calldata after ${after} blocks, for ${costs}`,
    );
    this.#loop = this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  status(): PeerStatus[] {
    return [];
  }

  figures(): Figure[] {
    const name = 'dstack_relay_calldata';
    const { waiting, counts } = this.#reader;
    const since = 'since the relay was started.';
    return [
      {
        name: `${name}_open`,
        help: 'Requests about which publications are looked for.',
        value: this.#open.size,
      },
      { name: `${name}_waiting`, help: 'Publications that are not read yet.', value: waiting },
      { name: `${name}_read`, help: `Publications of use, ${since}`, value: counts.read },
      { name: `${name}_useless`, help: `Publications of no use, ${since}`, value: counts.useless },
      {
        name: `${name}_left`,
        help: `Publications for which there was no room, ${since}`,
        value: counts.left,
      },
      { name: `${name}_sent`, help: `Messages published, ${since}`, value: this.#sender.sent },
    ];
  }

  async #run(): Promise<void> {
    const { chain, log } = this.#options;
    const { signal } = this.#closing;
    for (let heads = 0; !signal.aborted; ) {
      try {
        if ((await this.#round()) && heads++ % PRUNE_HEADS === 0)
          this.#ledger.prune((subject) => this.#open.has(subject));
        if (this.#problem !== '') log.info({}, 'messages travel as calldata again');
        this.#problem = '';
      } catch (error) {
        const problem = `${codeOf(error)}: ${messageOf(error)}`;
        if (problem !== this.#problem)
          log.warn({ code: codeOf(error) }, `messages do not travel as calldata for now: ${problem}`);
        this.#problem = problem;
        this.#lookedAt = { hash: '', last: -1, own: '' };
      }
      await pausing(chain.pollMs, signal);
    }
  }

  /** @returns whether there was something to do */
  async #round(): Promise<boolean> {
    const { chain } = this.#options;
    const own = chain.own();
    const onChain = this.#exchange.onChain();
    // Nobody asks the chain because of this while nothing is open.
    if (own === undefined && onChain.length === 0) return false;
    const { number: head, hash } = await chain.rpc.head();
    const at = { hash, last: this.#exchange.last, own: own?.subject ?? '' };
    const isSame = (Object.keys(at) as (keyof typeof at)[]).every((key) => at[key] === this.#lookedAt[key]);
    if (isSame) return false;
    this.#open = openAt(head, onChain, own);
    if (this.#open.size > 0) {
      const window = await chain.requestWindow();
      const found = await this.#finder.look(this.#open, head, window + REORG_BLOCKS);
      this.#reader.keep(found, (subject) => this.#open.has(subject));
      try {
        await this.#reader.read(head, own?.subject, () => this.#closing.signal.aborted);
      } finally {
        // An endpoint that can't give one publication keeps no other host waiting for an answer.
        await this.#sender.send({ head, window, own, open: this.#open });
      }
    }
    this.#lookedAt = at;
    return true;
  }
}

/** As long as a request's window may be stretched by re-organisations. */
const REORG_BLOCKS = 64;

function openAt(
  head: number,
  onChain: readonly [subject: string, until: number][],
  own: OwnRequest | undefined,
): ReadonlySet<string> {
  const open = onChain.filter(([, until]) => until >= head).toSorted(([, a], [, b]) => b - a);
  const subjects = open.slice(0, MAX_SUBJECTS).map(([subject]) => subject);
  return new Set(own === undefined ? subjects : [own.subject, ...subjects]);
}
