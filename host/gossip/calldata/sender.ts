/**
 * What this host publishes, and when; each message once, and only what somebody waits for who may have no other way:
 *
 * - the request of its own node, while that is open: at once where nothing else carries messages, or when what does has brought no answer in time.
 *   Without the parts that most have; whole, if there is still no answer half a request window later: nodes may go by finality, which takes its time;
 * - what answers a request of others that was itself published: it goes the way the request came. The request never does, nor anything because of an
 *   answer that somebody published: that would cost each host ten times what it costs who wants it so. Hosts take turns, so that few of them pay for
 *   the same.
 */
import type { Log } from '../../../lib/daemon/log.ts';
import { RateLimit } from '../../../lib/daemon/rate-limit.ts';
import { TRANSACTION_DATA_MAX } from '../../../lib/framework/handler.ts';
import type { Transactions } from '../../../lib/framework/transactions/transactions.ts';
import { fromHex, sha256, utf8 } from '../../../lib/protocol/encoding.ts';
import { type Address, addressKey, chainHex, parseHex } from '../../../lib/protocol/hex.ts';
import {
  encodePublish,
  publicationsAddress,
  publicationsDeployer,
  publicationsDeployment,
} from '../../../lib/protocol/publications-contract.ts';
import type { Exchange } from '../carrier.ts';
import type { Message } from '../message-kind.ts';
import type { Ledger } from './ledger.ts';
import { encodeMessage } from './message-bytes.ts';
import type { Publications } from './publications.ts';
import type { PublicationReader } from './reader.ts';

/** The request of this host's own node, while it is on chain and the node has not joined by it. */
export interface OwnRequest {
  /** 64 hex digits. */
  subject: string;
  message: Message;
}

/** What is the case at a block. */
export interface Due {
  head: number;
  /** Blocks for which a request is open. */
  window: number;
  own: OwnRequest | undefined;
  /** Requests that are open, by what they are known by. */
  open: ReadonlySet<string>;
}

export interface SenderOptions {
  exchange: Exchange;
  publications: Pick<Publications, 'isDeployed'>;
  reader: Pick<PublicationReader, 'published' | 'subjects'>;
  ledger: Ledger;
  transactions: Pick<Transactions, 'submit' | 'status' | 'address'>;
  /** Nodes that the network has, as far as this host knows: their hosts could all answer. */
  nodes(): number;
  /** Whether a subject is a request of this host's own node, of now or of before: whose answers are not for others. */
  isOwn(subject: string): boolean;
  /** The network's: part of what a transaction is for. */
  contract: Address;
  /** Blocks after which the own request is published. */
  after: number;
  log: Log<'info' | 'warn'>;
}

/** The type of what asks for the others. */
const REQUEST = 'request';
/** In so many blocks as many hosts have their turns, in expectation; then four times as many, and so on: who is dead costs these few blocks. */
const TURNS = 4;
const GROWTH = 4;
/** Publications for others: as many at once, and one in five minutes. What they cost, whoever asked has paid several times over. */
const FOR_OTHERS = { burst: 16, perSecond: 1 / 300 };

export class PublicationSender {
  readonly #options: SenderOptions;
  readonly #forOthers = new RateLimit(FOR_OTHERS);
  /** At which block something was first to be published, by subject and type. */
  readonly #since = new Map<string, number>();
  #isDeployed = false;
  #said = '';
  /** Publications of this process. */
  sent = 0;

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  /** Sends what is due at this block. @throws RPC_*, TX_QUEUE_FULL: nothing is lost */
  async send({ head, window, own, open }: Due): Promise<void> {
    for (const key of this.#since.keys()) if (!open.has(key.slice(0, 64))) this.#since.delete(key);
    if (own !== undefined) await this.#sendOwn(own, head, window);
    const { reader, isOwn } = this.#options;
    for (const subject of reader.subjects())
      if (open.has(subject) && reader.published(subject).has(REQUEST) && !isOwn(subject))
        await this.#answer(subject, head);
  }

  async #sendOwn({ subject, message }: OwnRequest, head: number, window: number): Promise<void> {
    const { exchange, ledger, reader, after } = this.#options;
    const published = ledger.sentAt(subject, message.type);
    if (published === undefined && head - this.#sinceOf(subject, message.type, head) < after) return;
    // Which parts there are is not known any more after a restart.
    exchange.parts.note(message);
    const names = new Set(exchange.parts.atHand().names());
    const short = exchange.parts.without(message, names);
    await this.#publish(subject, message.type, short, head);
    const isLate = published !== undefined && head - published >= window / 2;
    // Anybody can publish a copy of the request.
    const isAnswered = [...reader.published(subject)].some((type) => type !== message.type);
    if (isLate && short.without !== undefined && !isAnswered)
      await this.#publish(subject, `${message.type}-whole`, { message }, head);
  }

  /** What is held that answers a published request and nobody has published. */
  async #answer(subject: string, head: number): Promise<void> {
    const { exchange, reader, ledger } = this.#options;
    const held = new Map<string, Message>();
    for (const id of exchange.idsAbout(subject)) {
      const message = exchange.get(id)?.message;
      if (message !== undefined && !held.has(message.type)) held.set(message.type, message);
    }
    for (const [type, message] of held) {
      if (reader.published(subject).has(type)) continue;
      if (head - this.#sinceOf(subject, type, head) < this.#turn(subject)) continue;
      const isNew = ledger.sentAt(subject, type) === undefined;
      if (isNew && !this.#forOthers.has('', 1)) continue;
      await this.#publish(subject, type, { message }, head, () => !isNew || this.#forOthers.take(''));
    }
  }

  /**
   * Once: the payer stores it, raises its fee, and sends it again when a re-organisation dropped it.
   * @param mayPay asked last, once nothing else is in the way
   */
  async #publish(
    subject: string,
    what: string,
    sent: Parameters<typeof encodeMessage>[0],
    head: number,
    mayPay = () => true,
  ): Promise<void> {
    const { ledger, transactions, contract, log } = this.#options;
    const request = chainHex(parseHex(subject));
    const purpose = `publish:${addressKey(contract)}:${request}:${what}`;
    const isSent = ledger.sentAt(subject, what) !== undefined;
    if (isSent && transactions.status(purpose)?.state !== 'failed') return;
    if (!(await this.#deployed())) return;
    const data = encodePublish({ subject: request, message: encodeMessage(sent) });
    const fields = { request, what, bytes: data.length / 2 - 1, gas: calldataGas(data) };
    if (data.length > TRANSACTION_DATA_MAX) {
      this.#say(
        'CALLDATA_TOO_LARGE',
        `${what} takes ${fields.bytes} bytes, more than a transaction may have here`,
      );
      return;
    }
    if (!mayPay()) return;
    transactions.submit({ purpose, to: publicationsAddress, data });
    if (isSent) return;
    ledger.putSent(subject, what, head);
    this.sent += 1;
    log.info(fields, `publishing ${what} as calldata, for about ${fields.gas} gas`);
  }

  /** Whoever publishes first on a chain creates the contract. @returns whether it is there */
  async #deployed(): Promise<boolean> {
    if (this.#isDeployed) return true;
    const { publications, transactions, log } = this.#options;
    this.#isDeployed = await publications.isDeployed();
    if (this.#isDeployed) return true;
    const purpose = `publications:${addressKey(publicationsAddress)}`;
    const status = transactions.status(purpose);
    if (status === undefined)
      log.info(
        { contract: publicationsAddress },
        'nobody has published on this chain: creating the contract for it',
      );
    if (status?.state === 'failed' || status?.state === 'final') {
      const why = `${publicationsAddress} has no code, and creating it through ${publicationsDeployer} did not help`;
      this.#say('CALLDATA_NO_CONTRACT', `${why}: has this chain that deployer? ${status.message ?? ''}`);
    }
    transactions.submit({ purpose, to: publicationsDeployer, data: publicationsDeployment });
    return false;
  }

  #sinceOf(subject: string, type: string, head: number): number {
    const key = `${subject}/${type}`;
    const since = Math.min(this.#since.get(key) ?? head, head);
    this.#since.set(key, since);
    return since;
  }

  /** Blocks that this host leaves to others. */
  #turn(subject: string): number {
    const { transactions, nodes } = this.#options;
    const hash = sha256(utf8(`${addressKey(transactions.address)}/${subject}`));
    const place = new DataView(hash.buffer, hash.byteOffset).getUint32(0) / 2 ** 32;
    let [from, to, start] = [0, Math.min(1, TURNS / nodes()), 0];
    while (place >= to) {
      [from, to] = [to, Math.min(1, to * GROWTH)];
      start += TURNS;
    }
    return start + Math.floor((TURNS * (place - from)) / (to - from));
  }

  #say(code: string, text: string): void {
    if (this.#said !== text) this.#options.log.warn({ code }, text);
    this.#said = text;
  }
}

/**
 * What a transaction costs that does little else than carry this data: EIP-7623's floor. Chains that have other rules charge less by gas, and may
 * charge for the data in another way.
 */
export function calldataGas(data: string): number {
  const bytes = fromHex(data.slice(2));
  const zeros = bytes.filter((byte) => byte === 0).length;
  return 21_000 + 10 * (zeros + 4 * (bytes.length - zeros));
}
