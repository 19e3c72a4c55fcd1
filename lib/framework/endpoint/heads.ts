/**
 * The newest block of one endpoint, asked for at the chain's own pace: no sooner than the next block can be there, by the times
 * of the last ones. What is known of the blocks before it comes with it for nothing: each names its parent's hash, and says by its
 * bloom filter (Yellow Paper, 4.3.1) which contracts surely emitted nothing in it.
 *
 * An endpoint that lies here can make this host read late, or again; it could as well lie about what is read.
 */
import { fromHex } from '../../protocol/encoding.ts';
import { keccak256 } from '../../protocol/secp256k1.ts';

export interface Header {
  number: number;
  hash: string;
  /** Wei; undefined on a chain without EIP-1559. */
  baseFee: bigint | undefined;
  parentHash: string | undefined;
  /** Unix seconds. */
  timestamp: number | undefined;
  /** 256 bytes, 0x-prefixed. */
  logsBloom: string | undefined;
}

/** Headers that are remembered; the event loop reads 16 blocks again. */
const REMEMBERED = 64;
/** Differences between blocks' times that are looked at: the smallest is when the next one may come. */
const INTERVALS = 8;
const MIN_INTERVALS = 4;
/** Chains whose blocks follow more closely are not waited for, and nobody waits longer than this. Milliseconds. */
const WAIT_MIN = 2_000;
const WAIT_MAX = 15_000;
/** A block that was there when it was asked for may have been there before: next time it is asked for so much sooner. */
const SOONER = 200;
/** Between two calls, whoever asks: on a chain whose pace is not known, for a block that is due, and for one that is late. */
const PAUSE = 200;
const DUE_PAUSE = 900;
const LATE_PAUSE = 1_900;
/** A block that is so late may not come at all, as where a validator is missing. Milliseconds. */
const LATE = 2_500;

export class Heads {
  readonly #ask: () => Promise<Header>;
  readonly #now: () => number;
  /** By number, each the parent of the next; the newest last. */
  readonly #linked = new Map<number, Header>();
  readonly #intervals: number[] = [];
  #newest: Header | undefined;
  #asking: Promise<Header> | undefined;
  /** Why the last call failed, and until when all who ask are told so. */
  #failed: { error: unknown; until: number } | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  /** When the next block may be there, milliseconds; 0 when the chain's pace is not known. */
  #due = 0;
  /** How long after its own timestamp a block is shown by the endpoint. */
  #lag = 0;
  /** Whether the newest block was already asked for in vain since it was due. */
  #missed = false;
  #breaks = 0;

  /** @param ask for the newest block. @param now milliseconds */
  constructor(ask: () => Promise<Header>, now: () => number = Date.now) {
    this.#ask = ask;
    this.#now = now;
  }

  /**
   * However many ask, the endpoint is asked once, and not before a newer block can be there.
   * @param anew for one who would rather be sure: not more often than every so often either
   * @throws what `ask` throws
   */
  async newest(anew?: 'anew'): Promise<Header> {
    const now = this.#now();
    const early = (now < this.#due && anew === undefined) || now < this.#askedAt + this.#pause(now);
    if (this.#newest !== undefined && early) return this.#newest;
    // Whatever anyone sends to this host makes it ask: not more often than an endpoint that answers.
    if (this.#failed !== undefined && now < this.#failed.until) throw this.#failed.error;
    this.#asking ??= this.#read().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  /** Milliseconds until the next block may be there; 0 when that is not known. */
  get rest(): number {
    return Math.max(0, this.#due - this.#now());
  }

  #pause(now: number): number {
    if (this.#due === 0) return PAUSE;
    // Where one is missing, the next comes when the one after it is due.
    return (now - this.#due) % this.#interval() > LATE ? LATE_PAUSE : DUE_PAUSE;
  }

  /** How often a newest block did not follow from the one before: a re-organisation, or blocks that were not looked at. */
  get breaks(): number {
    return this.#breaks;
  }

  /** Of a block from which the newest one descends, as far as it is remembered. */
  hashOf(number: number): string | undefined {
    return this.#linked.get(number)?.hash;
  }

  /**
   * Whether the blocks surely have no log of this contract with one of these topics; of any topic if there are none.
   * Without the blocks' filters, or where a filter is empty, which some chains always say, nothing is sure.
   */
  isQuiet(from: number, to: number, contract: string, topics: readonly string[] = []): boolean {
    for (let number = from; number <= to; number += 1) {
      const bloom = this.#filterOf(number);
      if (bloom === undefined || mayHave(bloom, contract, topics)) return false;
    }
    return true;
  }

  /** Whether a block is known to say that it may have such a log: nearly always because it has. */
  isLoud(number: number, contract: string, topics: readonly string[]): boolean {
    const bloom = this.#filterOf(number);
    return bloom !== undefined && !/^0xf*$/.test(bloom) && mayHave(bloom, contract, topics);
  }

  /** Whether a block is known to say that it may have a log of this topic about a subject. @param subject its first indexed word, 64 hex digits */
  names(number: number, contract: string, topic: string, subject: string): boolean {
    return this.isLoud(number, contract, [topic]) && mayContain(this.#filterOf(number)!, subject);
  }

  #filterOf(number: number): string | undefined {
    const bloom = this.#linked.get(number)?.logsBloom;
    return bloom === undefined || /^0x0*$/.test(bloom) ? undefined : bloom;
  }

  async #read(): Promise<Header> {
    const found = await this.#ask().catch((error: unknown) => {
      this.#failed = { error, until: this.#now() + DUE_PAUSE };
      throw error;
    });
    this.#failed = undefined;
    const known = this.#newest;
    const now = this.#now();
    this.#askedAt = now;
    if (known?.hash === found.hash) {
      this.#missed = true;
      return known;
    }
    this.#link(found);
    this.#newest = found;
    this.#pace(found, now);
    return found;
  }

  #link(found: Header): void {
    const parent = this.#linked.get(found.number - 1);
    if (parent === undefined || parent.hash !== found.parentHash || this.#newest !== parent) {
      if (this.#newest !== undefined) this.#breaks += 1;
      this.#linked.clear();
    } else if (parent.timestamp !== undefined && found.timestamp !== undefined) {
      this.#intervals.push(1000 * (found.timestamp - parent.timestamp));
      if (this.#intervals.length > INTERVALS) this.#intervals.shift();
    }
    this.#linked.set(found.number, found);
    this.#linked.delete(found.number - REMEMBERED);
  }

  #pace(found: Header, now: number): void {
    const interval = this.#interval();
    if (found.timestamp === undefined || interval < WAIT_MIN) {
      this.#due = 0;
    } else {
      const lag = now - 1000 * found.timestamp;
      // One that was asked for in vain came between the two calls.
      if (this.#missed) this.#lag = lag - DUE_PAUSE / 2;
      else this.#lag = this.#due === 0 ? lag : Math.min(this.#lag, lag) - SOONER;
      // By neither clock it is waited for longer than blocks are apart.
      this.#due = Math.min(1000 * found.timestamp + interval + this.#lag, now + interval);
    }
    this.#missed = false;
  }

  #interval(): number {
    if (this.#intervals.length < MIN_INTERVALS) return 0;
    return Math.min(WAIT_MAX, ...this.#intervals);
  }
}

const mayHave = (bloom: string, contract: string, topics: readonly string[]): boolean => {
  const may = (item: string) => mayContain(bloom, item);
  return may(contract) && (topics.length === 0 || topics.some(may));
};

/** The bits of what was asked for lately: the same few are looked for in every block. */
const bitsOf = new Map<string, readonly number[]>();
const MOST_BITS = 4096;

function bits(item: string): readonly number[] {
  const known = bitsOf.get(item);
  if (known !== undefined) return known;
  const hash = keccak256(fromHex(item.replace(/^0x/, '')));
  const found = [0, 2, 4].map((at) => ((hash[at]! << 8) | hash[at + 1]!) & 2047);
  if (bitsOf.size >= MOST_BITS) bitsOf.clear();
  bitsOf.set(item, found);
  return found;
}

/** @param item an address or a word, hex */
function mayContain(bloom: string, item: string): boolean {
  return bits(item).every((bit) => {
    // The filter is one large number, its lowest bit last.
    const nibble = Number.parseInt(bloom.at(-1 - (bit >> 2)) ?? '0', 16);
    return ((nibble >> (bit & 3)) & 1) === 1;
  });
}
