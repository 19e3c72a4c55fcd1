/**
 * Signers of one key under every fault that a store and a machine have, against a model that knows nothing of how they work.
 *
 *   node test/torture/signing.ts REQUESTS SEED
 *
 * Several signers share one record. Every step of theirs (a read, a swap, a pause) waits until chance lets it go on, in any order; a swap
 * is done and its answer lost, not done and its answer lost, done later or done twice; a signer dies at any step and another one begins
 * with what the record says. The model keeps a list of what was written and of what was signed, by height, round, step and block, and looks
 * for two different signatures of one step. Prints one line of JSON; exits 1 on a finding.
 */

import { LastSigned } from '../../guest/signer/last-signed.ts';
import type { Records, Stored, Swapped } from '../../guest/signer/records.ts';
import { NIL_BLOCK, NO_PROPOSAL, NO_VOTE, type Timestamp } from '../../lib/cometbft/consensus.ts';
import { proposalSignBytes, voteSignBytes } from '../../lib/cometbft/sign-bytes.ts';
import { decodeState, encodeState, NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { Random } from './random.ts';

const SIGNERS = 3;
const BLOCKS = [NIL_BLOCK, blockOf(1), blockOf(2)];

/** What a node asks for, in the model's words. */
interface Asked {
  readonly height: number;
  readonly round: number;
  readonly step: number;
  readonly block: number;
  readonly time: number;
}

export interface Outcome {
  readonly requests: number;
  readonly signed: number;
  /** By code. */
  readonly refused: Readonly<Record<string, number>>;
  readonly crashes: number;
  readonly faults: number;
  readonly findings: readonly string[];
}

export async function simulate(requests: number, seed: number): Promise<Outcome> {
  const world = new World(new Random(seed));
  await world.run(requests);
  return world.outcome();
}

class World {
  readonly #random: Random;
  readonly #model = new Model();
  #stored: Stored = { value: encodeState(NOTHING_SIGNED), revision: 1n };
  /** Steps that wait for chance. */
  #waiting: (() => void)[] = [];
  /** Swaps that the network still carries. */
  #late: (() => void)[] = [];
  #signers: { one: LastSigned; alive: { is: boolean } }[] = [];
  #counts = { requests: 0, signed: 0, crashes: 0, faults: 0 };
  #refused: Record<string, number> = {};
  #height = 1;

  constructor(random: Random) {
    this.#random = random;
    for (let n = 0; n < SIGNERS; n += 1) this.#signers.push(this.#newSigner());
  }

  async run(requests: number): Promise<void> {
    let running = 0;
    while (this.#counts.requests < requests || running > 0) {
      if (running < SIGNERS && this.#counts.requests < requests && this.#random.chance(0.4)) {
        running += 1;
        void this.#request().finally(() => {
          running -= 1;
        });
      }
      if (this.#random.chance(0.02)) this.#crash();
      if (this.#late.length > 0 && this.#random.chance(0.2)) take(this.#late, this.#random)();
      if (this.#waiting.length > 0) take(this.#waiting, this.#random)();
      // Whoever was let go on comes to the next step.
      for (let n = 0; n < 12; n += 1) await undefined;
    }
  }

  outcome(): Outcome {
    return { ...this.#counts, refused: this.#refused, findings: this.#model.findings };
  }

  async #request(): Promise<void> {
    this.#counts.requests += 1;
    const asked = this.#ask();
    const { one, alive } = this.#random.pick(this.#signers);
    // A node that has waited long enough asks again, or another signer.
    const patience = new AbortController();
    if (this.#random.chance(0.1)) this.#step().then(() => patience.abort());
    try {
      const { sign } = await one.permit(
        { height: BigInt(asked.height), round: asked.round, step: asked.step, signBytes: bytesOf(asked) },
        patience.signal,
      );
      // Frozen between the permission and the signature: anything may happen meanwhile, and then it signs.
      if (this.#random.chance(0.3)) await this.#step();
      if (!alive.is) return;
      this.#counts.signed += 1;
      this.#model.signed(asked, sign);
    } catch (error) {
      const code = codeOf(error);
      this.#refused[code] = (this.#refused[code] ?? 0) + 1;
      this.#model.refused(asked, code);
    }
  }

  /** Near where the chain is; often for a step that was asked for before, with another block or another time. */
  #ask(): Asked {
    const random = this.#random;
    if (random.chance(0.15)) this.#height += 1;
    const step = random.between(1, 3);
    return {
      height: Math.max(1, this.#height - (random.chance(0.15) ? 1 : 0)),
      round: random.chance(0.8) ? 0 : 1,
      step,
      block: step === 1 ? random.between(1, 2) : random.between(0, 2),
      time: random.between(0, 3),
    };
  }

  #newSigner() {
    const alive = { is: true };
    return { one: new LastSigned(this.#records(), 'key', () => this.#step()), alive };
  }

  #crash(): void {
    this.#counts.crashes += 1;
    const at = this.#random.between(0, SIGNERS - 1);
    this.#signers[at]!.alive.is = false;
    this.#signers[at] = this.#newSigner();
  }

  #step(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #records(): Records {
    return {
      read: async () => {
        await this.#step();
        this.#mayFail(0.03);
        const stored = this.#stored;
        await this.#step();
        return stored;
      },
      swap: async (_, before, value) => {
        await this.#step();
        return this.#swap(before?.revision ?? 0n, value);
      },
    };
  }

  async #swap(revision: bigint, value: string): Promise<Swapped> {
    const fate = this.#random.between(0, 19);
    if (fate > 3) {
      const swapped = this.#apply(revision, value);
      // Twice on the way: the second one finds another revision.
      if (fate === 4) this.#late.push(() => this.#apply(revision, value));
      await this.#step();
      return swapped;
    }
    this.#counts.faults += 1;
    if (fate === 0) this.#apply(revision, value);
    if (fate === 1) this.#late.push(() => this.#apply(revision, value));
    if (fate === 2) {
      this.#apply(revision, value);
      this.#late.push(() => this.#apply(revision, value));
    }
    throw new Error('the answer was lost');
  }

  #apply(revision: bigint, value: string): Swapped {
    if (this.#stored.revision !== revision) return { written: false, current: this.#stored };
    this.#stored = { value, revision: revision + 1n };
    this.#model.written(value);
    return { written: true, revision: this.#stored.revision };
  }

  #mayFail(share: number): void {
    if (!this.#random.chance(share)) return;
    this.#counts.faults += 1;
    throw new Error('the answer was lost');
  }
}

/** What was written and what was signed, and what must never be. */
class Model {
  readonly findings: string[] = [];
  /** The sign bytes of each step, as they were written, and as they were signed. */
  readonly #written = new Map<string, string>();
  readonly #signatures = new Map<string, string>();
  /** The block of each step that was signed. */
  readonly #blocks = new Map<string, number>();
  #last = 0;

  written(value: string): void {
    const { height, round, step, signBytes } = decodeState(value);
    const order = orderOf(Number(height), round, step);
    if (order <= this.#last) this.#find(`the record went from ${this.#last} to ${order}`);
    this.#last = order;
    this.#written.set(String(order), toHex(signBytes));
  }

  signed(asked: Asked, sign: Uint8Array): void {
    const key = String(orderOf(asked.height, asked.round, asked.step));
    const bytes = toHex(sign);
    const before = this.#signatures.get(key);
    if (before !== undefined && before !== bytes) this.#find(`two signatures of step ${key}`);
    if (this.#written.get(key) !== bytes) this.#find(`step ${key} was signed and not written`);
    const block = this.#blocks.get(key);
    if (block !== undefined && block !== asked.block) this.#find(`two blocks in step ${key}`);
    this.#signatures.set(key, bytes);
    this.#blocks.set(key, asked.block);
  }

  refused(asked: Asked, code: string): void {
    const order = orderOf(asked.height, asked.round, asked.step);
    if (code === 'SIGN_REGRESSION' && this.#last <= order) this.#find(`${order} is no regression`);
    if (code === 'SIGN_CONFLICT') {
      const there = this.#written.get(String(order));
      const same: string[] = [0, 1, 2, 3].map((time) => toHex(bytesOf({ ...asked, time })));
      if (there === undefined || same.includes(there)) this.#find(`nothing conflicts at ${order}`);
    }
    if (!['SIGN_REGRESSION', 'SIGN_CONFLICT', 'STORE_UNAVAILABLE'].includes(code))
      this.#find(`refused with ${code}`);
  }

  #find(what: string): void {
    if (this.findings.length < 20) this.findings.push(what);
  }
}

function orderOf(height: number, round: number, step: number): number {
  return height * 100 + round * 10 + step;
}

function blockOf(byte: number) {
  const hash = new Uint8Array(32).fill(byte);
  return { hash, parts: { total: 1, hash } };
}

const kept = new Map<string, Uint8Array>();
function bytesOf({ height, round, step, block, time }: Asked): Uint8Array {
  const key = `${height}/${round}/${step}/${block}/${time}`;
  const known = kept.get(key);
  if (known !== undefined) return known;
  if (kept.size > 10_000) kept.clear();
  const timestamp: Timestamp = { seconds: 1_700_000_000n + BigInt(time), nanos: time };
  const common = { height: BigInt(height), round, blockId: BLOCKS[block]!, timestamp };
  const bytes =
    step === 1
      ? proposalSignBytes('chain', { ...NO_PROPOSAL, ...common, polRound: -1 })
      : voteSignBytes('chain', { ...NO_VOTE, ...common, type: step - 1 });
  kept.set(key, bytes);
  return bytes;
}

function take<T>(list: T[], random: Random): T {
  const at = random.between(0, list.length - 1);
  const [taken] = list.splice(at, 1);
  return taken!;
}

if (import.meta.main) {
  const [requests = '1000000', seed = '1'] = process.argv.slice(2);
  const begun = performance.now();
  const outcome = await simulate(Number(requests), Number(seed));
  print(
    JSON.stringify({
      ...outcome,
      seed: Number(seed),
      seconds: Math.round((performance.now() - begun) / 1000),
    }),
  );
  process.exitCode = outcome.findings.length > 0 ? 1 : 0;
}
