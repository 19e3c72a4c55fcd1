/**
 * A file by which the next audit pays only for what is new: every event of the contract up to a block, by the block's hash, and each quote
 * that was accepted, with the time and the policy by which it was judged. Each run appends to it; its hashes are chained
 * (checkpoint-lines.ts).
 *
 * The chain shows what was altered or lost by accident, and by whoever does not know it. Whoever can write the file can write another
 * that is whole: that its events are not the contract's shows in the root of the storage, but a verdict that nobody came to does not.
 * So the hash of the last run is printed, and an auditor who keeps the file where others write gives it next time (`pin`).
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ChainClient, Head } from '../../lib/chain/chain-client.ts';
import { fillDurably } from '../../lib/daemon/durable-file.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { addressKey, parseHex } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import {
  type CheckpointEvent,
  type CheckpointHead,
  FORMAT,
  hashOf,
  LINE_MAX_BYTES,
  lineOf,
  linesOf,
  parseLine,
  type Verdict,
} from './checkpoint-lines.ts';
import type { Entry } from './history.ts';
import type { TcbPolicy } from './tcb-replay.ts';

/** A file of half a million onboardings. Bytes. */
const MAX_BYTES = 1024 * 1024 * 1024;
const root = join(import.meta.dirname, '../..');

/** One audit that was made before, and how much of the file is its and the former ones'. */
interface Run {
  readonly block: number;
  readonly blockHash: string;
  /** What stands for the file up to here. */
  readonly hash: string;
  readonly events: number;
  readonly verdicts: number;
  readonly bytes: number;
}

/** What earlier audits know, up to a block that the chain still has. */
export interface Earlier {
  /** Everything up to this block is known. */
  readonly block: number;
  readonly hash: string;
  readonly entries: readonly Entry[];
  /** By role and what each is of. A later one of the same replaces an earlier one. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
  /** The block of the newest run, when the chain no longer has it. */
  readonly fellBackFrom: number | undefined;
}

export const keyOf = ({ role, of }: { role: Verdict['role']; of: string }): string => `${role} ${of}`;

/** What a verdict was come to by, of the contract's. */
export const policyHash = (policy: TcbPolicy): string => {
  const { statuses, minimumTcbEvaluationDataNumber, gracePeriodDays, deniedFmspcs } = policy;
  const denied = deniedFmspcs?.toSorted() ?? [];
  return hashOf(JSON.stringify([statuses, minimumTcbEvaluationDataNumber, gracePeriodDays ?? 0, denied]));
};

/** The hash of the source that comes to verdicts: with another one, earlier verdicts count for nothing. */
export function verifierHash(): string {
  const files = ['lib/attestation/**/*.ts', 'lib/protocol/*.ts', 'cli/audit/evidence*.ts'].flatMap((glob) =>
    globSync(glob, { cwd: root }),
  );
  const hash = createHash('sha256');
  for (const file of files.filter((name) => !name.endsWith('.test.ts')).sort()) {
    hash.update(`${file}\n${hashOf(readFileSync(join(root, file)))}\n`);
  }
  return hash.digest('hex');
}

/** A mistyped path is told before anything is asked of anybody. @throws AUDIT_CHECKPOINT_FILE */
export function requireUsable(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found !== undefined && !found.isFile()) {
    throw new DstackError('AUDIT_CHECKPOINT_FILE', `--checkpoint names a file, and ${path} is none`);
  }
  if (statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new DstackError('AUDIT_CHECKPOINT_FILE', `--checkpoint: there is no folder ${dirname(path)}`);
  }
}

export class Checkpoint {
  readonly #path: string;
  readonly #head: CheckpointHead;
  readonly #runs: Run[] = [];
  readonly #entries: Entry[] = [];
  readonly #verdicts: Verdict[] = [];
  /** The file as it was read; undefined when there was none. */
  #read: string | undefined;
  /** How many runs are continued: those of blocks that the chain still has. */
  #continued = 0;

  private constructor(path: string, head: CheckpointHead) {
    this.#path = path;
    this.#head = head;
  }

  /**
   * The checkpoint in this file, or an empty one if there is no such file.
   * @param pin the hash that an earlier audit printed
   * @throws AUDIT_CHECKPOINT_LARGE, _MALFORMED, _TRUNCATED, _ALTERED, _NETWORK, _POLICY, _PIN
   */
  static async open(path: string, network: Domain, flavour: Flavour, pin?: string): Promise<Checkpoint> {
    const contract = addressKey(network.contract);
    const head = { type: 'head', format: FORMAT, chainId: network.chainId, contract } as const;
    const verifier = parseHex(verifierHash());
    const checkpoint = new Checkpoint(path, { ...head, flavour, verifier });
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size !== undefined && size > MAX_BYTES) {
      throw refusal('LARGE', `${path} has ${size} bytes, more than ${MAX_BYTES}: it is no checkpoint`);
    }
    if (size !== undefined) await checkpoint.#load();
    if (pin !== undefined && checkpoint.hash !== pin) {
      const found =
        size === undefined ? `there is no ${path}` : `the last hash in ${path} is ${checkpoint.hash}`;
      throw refusal('PIN', `${found}, and not ${pin}: it is not the file that the earlier audit left`);
    }
    return checkpoint;
  }

  /** What stands for the whole file; undefined for an empty one. */
  get hash(): string | undefined {
    return this.#runs.at(-1)?.hash;
  }

  get runs(): number {
    return this.#runs.length;
  }

  /**
   * What earlier audits know, up to the newest block that the chain still has; undefined when there were none.
   * @throws AUDIT_CHECKPOINT_AHEAD, AUDIT_CHECKPOINT_REORG, and what the chain client throws
   */
  async upTo(chain: ChainClient, head: Head): Promise<Earlier | undefined> {
    const newest = this.#runs.at(-1);
    if (newest === undefined) return undefined;
    if (newest.block > head.number) {
      throw refusal(
        'AHEAD',
        `an earlier audit was made as of block ${newest.block}, and the endpoints show no block after ${head.number} as confirmed: they hide what came later, or lag; to audit the past, leave --checkpoint out`,
      );
    }
    const isOnChain = async ({ block, blockHash }: Run) => (await chain.block(block)).hash === blockHash;
    let [on, off] = (await isOnChain(newest))
      ? [this.#runs.length, this.#runs.length]
      : [0, this.#runs.length - 1];
    // If the chain has a block, it has all before it.
    while (on < off) {
      const middle = Math.ceil((on + off) / 2);
      if (await isOnChain(this.#runs[middle - 1]!)) on = middle;
      else off = middle - 1;
    }
    const run = this.#runs[on - 1];
    if (run === undefined) {
      throw refusal(
        'REORG',
        `the chain has none of the ${this.#runs.length} blocks that ${this.#path} is of, the newest ${newest.block} (${newest.blockHash}): it is another chain, or it was reorganised; to begin anew, name another file`,
      );
    }
    this.#continued = on;
    return {
      block: run.block,
      hash: run.hash,
      entries: this.#entries.slice(0, run.events),
      verdicts: new Map(this.#verdicts.slice(0, run.verdicts).map((verdict) => [keyOf(verdict), verdict])),
      fellBackFrom: run === newest ? undefined : newest.block,
    };
  }

  /**
   * Adds a run: the file then ends with it. Durable when it returns; if it throws, the file is as it was.
   * @param entries all of the history
   * @param verdicts those that are new
   * @returns the hash of the run
   * @throws AUDIT_CHECKPOINT_CHANGED when somebody else has written the file since it was opened, AUDIT_CHECKPOINT_LARGE
   */
  async add(head: Head, entries: readonly Entry[], verdicts: readonly Verdict[]): Promise<string> {
    const last = this.#runs[this.#continued - 1];
    const added = entries.slice(last?.events ?? 0);
    if (last?.blockHash === head.hash && verdicts.length === 0 && this.#continued === this.#runs.length) {
      return last.hash;
    }
    const lines = [...added.map(eventOf), ...verdicts].map((line) => `${lineOf(line)}\n`);
    // It would be a file that the next audit refuses to read.
    if (lines.some((line) => line.length > LINE_MAX_BYTES))
      throw refusal(
        'LARGE',
        `an event has more than ${LINE_MAX_BYTES} bytes: ${this.#path} is left as it is`,
      );
    const content = createHash('sha256');
    for (const line of lines) content.update(line);
    const headLine = lineOf(this.#head);
    const run = lineOf({
      type: 'run',
      former: parseHex(last?.hash ?? hashOf(headLine)),
      block: head.number,
      hash: parseHex(head.hash),
      events: added.length,
      verdicts: verdicts.length,
      lines: parseHex(content.digest('hex')),
    });
    const hash = hashOf(run);
    const end = lineOf({ type: 'end', runs: this.#continued + 1, hash: parseHex(hash) });
    await fillDurably(this.#path, async (draft) => {
      await this.#requireUnchanged();
      const kept =
        last === undefined
          ? [`${headLine}\n`]
          : createReadStream(this.#path, { start: 0, end: last.bytes - 1 });
      await pipeline(kept, createWriteStream(draft, { flags: 'wx' }));
      const rest = Readable.from([...lines, `${run}\n`, `${end}\n`]);
      await pipeline(rest, createWriteStream(draft, { flags: 'a' }));
    });
    return hash;
  }

  async #requireUnchanged(): Promise<void> {
    if ((await fileHash(this.#path)) === this.#read) return;
    const message = `${this.#path} was written by somebody else during this audit: it is left as it is`;
    throw refusal('CHANGED', message);
  }

  async #load(): Promise<void> {
    let [number, bytes, isOver] = [0, 0, false];
    let [lines, events, verdicts] = [createHash('sha256'), 0, 0];
    const file = createHash('sha256');
    const altered = (why: string) =>
      refusal('ALTERED', `${this.#path}, line ${number}: ${why}: restore the file, or name another one`);
    for await (const line of linesOf(createReadStream(this.#path))) {
      [number, bytes] = [number + 1, bytes + line.length + 1];
      file.update(line).update('\n');
      const found = parseLine(line, number);
      if (isOver) throw altered('something comes after its end');
      if ((number === 1) !== (found.type === 'head'))
        throw altered('its first line, and no other, is its head');
      if (found.type === 'head') this.#requireOwn(found);
      else if (found.type === 'end') {
        if (found.runs !== this.#runs.length || found.hash !== this.hash) throw altered('runs are missing');
        isOver = true;
      } else if (found.type === 'run') {
        const former = this.hash ?? hashOf(lineOf(this.#head));
        if (found.former !== former) throw altered('this run does not follow the former one');
        if (found.lines !== lines.digest('hex')) throw altered('the lines of this run were altered');
        if (found.events !== events || found.verdicts !== verdicts)
          throw altered('lines of this run are missing');
        const { block, hash: blockHash } = found;
        if (block < Math.max(this.#entries.at(-1)?.block ?? 0, this.#runs.at(-1)?.block ?? 0)) {
          throw altered('its events, or former runs, are of later blocks than it is');
        }
        const counts = { events: this.#entries.length, verdicts: this.#verdicts.length };
        this.#runs.push({ block, blockHash, hash: hashOf(line), ...counts, bytes });
        [lines, events, verdicts] = [createHash('sha256'), 0, 0];
      } else {
        lines.update(line).update('\n');
        if (found.type === 'verdict') [verdicts] = [verdicts + 1, this.#verdicts.push(found)];
        else {
          const entry = entryOf(found);
          if (entry === undefined || !this.#follows(entry)) throw altered('this event can not come here');
          [events] = [events + 1, this.#entries.push(entry)];
        }
      }
    }
    if (!isOver) {
      const message = `${this.#path} has no end: something of it is missing; restore the file, or name another one`;
      throw refusal('TRUNCATED', message);
    }
    this.#read = file.digest('hex');
  }

  #follows({ block, index }: Entry): boolean {
    const last = this.#entries.at(-1);
    if (block <= (this.#runs.at(-1)?.block ?? -1)) return false;
    return last === undefined || block > last.block || (block === last.block && index > last.index);
  }

  /** @throws AUDIT_CHECKPOINT_NETWORK, AUDIT_CHECKPOINT_POLICY */
  #requireOwn(head: CheckpointHead): void {
    const own = this.#head;
    if (head.chainId !== own.chainId || head.contract !== own.contract) {
      throw refusal(
        'NETWORK',
        `${this.#path} is of ${head.contract} on chain ${head.chainId}, not of ${own.contract} on chain ${own.chainId}: name another file`,
      );
    }
    if (head.flavour !== own.flavour) {
      const message = `${this.#path} has verdicts by the rules of ${head.flavour} images, not ${own.flavour} ones: name another file`;
      throw refusal('POLICY', message);
    }
    if (head.verifier !== own.verifier) {
      const message = `${this.#path} has verdicts of another release of this program: name another file, and everything is judged again`;
      throw refusal('POLICY', message);
    }
  }
}

const refusal = (code: string, message: string) => new DstackError(`AUDIT_CHECKPOINT_${code}`, message);

const eventOf = ({ block, time, index, transaction, topics, data }: Entry): CheckpointEvent => ({
  type: 'event',
  block,
  time,
  index,
  transaction,
  topics: [...topics],
  data,
});

function entryOf({ type: _, ...fields }: CheckpointEvent): Entry | undefined {
  const event = parseNetworkEvent(fields);
  return event === undefined ? undefined : { ...fields, event };
}

/** Undefined when there is no such file. */
async function fileHash(path: string): Promise<string | undefined> {
  if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}
