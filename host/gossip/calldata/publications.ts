/**
 * Publications as the chain shows them (contracts/Publications.sol): which there are about what, and each one's bytes.
 *
 * The endpoint may withhold any of them, and invent some: then it costs this host a few calls, of which there are only so many (reader.ts). What a
 * publication says is judged as a message from anywhere.
 */
import { isTooMuch, LogReader } from '../../../lib/chain/log-reader.ts';
import type { Rpc } from '../../../lib/framework/endpoint/rpc.ts';
import type { ContractLog } from '../../../lib/framework/handler.ts';
import { DstackError, Retryable } from '../../../lib/protocol/errors.ts';
import {
  type Address,
  bareHex,
  chainHex,
  type Hex,
  parseAddress,
  parseHex,
  sameAddress,
} from '../../../lib/protocol/hex.ts';
import {
  decodePublish,
  publicationsAddress,
  publicationsRuntimeBytecode,
  publishedTopic,
} from '../../../lib/protocol/publications-contract.ts';

/** A publication that the chain shows; what it says is not known yet. */
export interface Publication {
  /** 64 hex digits. */
  readonly subject: string;
  /** Who paid for it. */
  readonly publisher: Address;
  readonly transaction: Hex;
}

/** What is asked of an endpoint. */
export type PublicationsRpc = Pick<Rpc, 'head' | 'rest' | 'logsOf' | 'transaction' | 'code'> & {
  readonly heads: Pick<Rpc['heads'], 'isQuiet' | 'breaks'>;
};

/** Subjects in one call. */
const SUBJECTS = 256;
/** Blocks in one call, where the endpoint allows that many. */
const RANGE = 2_000;
/** Blocks that are left out because the endpoint gives no smaller part of them; of more, it is not the blocks. */
const MAX_LEFT_OUT = 4;

export class Publications {
  readonly rpc: PublicationsRpc;

  constructor(rpc: PublicationsRpc) {
    this.rpc = rpc;
  }

  /** Whether those blocks, by what they say of themselves, have none. */
  isQuiet(from: number, to: number): boolean {
    return this.rpc.heads.isQuiet(from, to, publicationsAddress.toLowerCase(), [publishedTopic]);
  }

  /** Those about the subjects in these blocks, inclusive. Of others the endpoint does not tell: whatever anyone publishes about them costs nothing here. */
  async about(subjects: readonly string[], from: number, to: number): Promise<Publication[]> {
    const found: Publication[] = [];
    let leftOut = 0;
    for (let at = 0; at < subjects.length; at += SUBJECTS) {
      const topics = [
        [publishedTopic],
        subjects.slice(at, at + SUBJECTS).map((subject) => chainHex(parseHex(subject))),
      ];
      const logs = new LogReader({
        first: RANGE,
        longest: RANGE,
        read: (first, last) => this.rpc.logsOf(publicationsAddress, first, last, topics),
      });
      for (let next = from; next <= to; ) {
        let page: readonly ContractLog[] = [];
        try {
          ({ to: next, page } = await logs.next(next, to));
        } catch (error) {
          // Somebody may have paid for one that is never given; the ones after it must not wait.
          leftOut += 1;
          if (!isTooMuch(error) || leftOut > MAX_LEFT_OUT) throw error;
        }
        next += 1;
        for (const { topics: words, transactionHash } of page) {
          const [, subject, publisher] = words;
          if (subject === undefined || publisher === undefined) continue;
          found.push({
            subject: bareHex(subject),
            publisher: parseAddress(`0x${publisher.slice(-40)}`),
            transaction: transactionHash,
          });
        }
      }
    }
    return found;
  }

  /**
   * The bytes that a publication's transaction has about its subject.
   * @throws CALLDATA_OTHER, CONTRACT_DATA_INVALID for a transaction that is no such publication; Retryable CALLDATA_WITHHELD, RPC_*
   */
  async bytesOf({ transaction, subject }: Publication): Promise<Hex> {
    const found = await this.rpc.transaction(transaction);
    if (found === undefined)
      throw new Retryable(
        'CALLDATA_WITHHELD',
        `the endpoint shows an event of ${transaction}, and not the transaction`,
      );
    const other = (what: string) => new DstackError('CALLDATA_OTHER', `${transaction} ${what}`);
    if (found.to === undefined || !sameAddress(found.to, publicationsAddress))
      throw other('publishes something by a call of another contract');
    const published = decodePublish(found.input);
    if (bareHex(published.subject) !== subject) throw other('is about something else than its event says');
    return published.message;
  }

  /** Whether the contract is there. A transaction to an address without code is paid for, and publishes nothing. */
  async isDeployed(): Promise<boolean> {
    return (await this.rpc.code(publicationsAddress)) === publicationsRuntimeBytecode;
  }
}
