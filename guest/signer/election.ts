/**
 * Which of several signers dials: the one whose name is in the store, under a lease that it keeps alive. Nothing but dialling rests on
 * it: what may be signed is decided by the record alone (last-signed.ts), whoever signs. It is among signers of the same keys: those of
 * other chains, on the same store, dial beside them.
 */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../../lib/daemon/log.ts';
import type { EtcdClient } from '../../lib/etcd/client.ts';
import { Compare_CompareResult, Compare_CompareTarget, KV } from '../../lib/etcd/gen/kv_pb.js';
import { Lease } from '../../lib/etcd/gen/lease_pb.js';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';

/** Seconds after which another one dials. */
const TTL = 5;
/** Milliseconds. */
const EVERY = 1_000;

export class Election {
  readonly #client: EtcdClient;
  readonly #log: Log<'info' | 'warn'>;
  readonly #key: Uint8Array;
  readonly #machine: string;
  readonly #stop = new AbortController();
  #lease: bigint | undefined;
  /** By `performance.now()`: until then nobody else can be the one. */
  #until = 0;
  #running: Promise<void> = Promise.resolve();
  #said = '';

  /**
   * @param records the keys of the records of those that this process signs with
   * @param machine its name: one that is started again on the machine where it was killed dials at once, since its place is still its own. Two
   * on one machine both dial, and the node lets the second one wait.
   */
  constructor(
    client: EtcdClient,
    log: Log<'info' | 'warn'>,
    records: readonly string[],
    machine = hostname(),
  ) {
    this.#machine = machine;
    const names = createHash('sha256').update(JSON.stringify([...records].sort()));
    this.#key = utf8(`signer/dialler/${names.digest('hex')}`);
    this.#client = client;
    this.#log = log;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Lets another one dial at once. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    if (this.#lease === undefined) return;
    await this.#client.call(Lease.method.leaseRevoke, { ID: this.#lease }).catch(() => {});
  }

  get elected(): boolean {
    return performance.now() < this.#until;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.#step();
        this.#said = '';
      } catch (error) {
        this.#lease = undefined;
        if (this.#said !== codeOf(error))
          this.#log.warn({ code: codeOf(error), err: error }, 'who dials is not known');
        this.#said = codeOf(error);
      }
      await sleep(EVERY, undefined, { signal: this.#stop.signal }).catch(() => {});
    }
  }

  async #step(): Promise<void> {
    const asked = performance.now();
    if (!(await this.#alive())) {
      const granted = await this.#client.call(Lease.method.leaseGrant, { TTL: BigInt(TTL) });
      this.#lease = granted.ID;
    }
    const was = this.elected;
    if (!(await this.#holds())) {
      this.#until = 0;
      return;
    }
    this.#until = asked + TTL * 1_000;
    if (!was) this.#log.info({}, 'this signer dials');
  }

  async #alive(): Promise<boolean> {
    if (this.#lease === undefined) return false;
    const { TTL: left } = await this.#client.call(Lease.method.leaseKeepAlive, { ID: this.#lease });
    return left > 0n;
  }

  /** Takes the place if nobody has it. */
  async #holds(): Promise<boolean> {
    const answer = await this.#client.call(KV.method.txn, {
      compare: [
        {
          key: this.#key,
          target: Compare_CompareTarget.CREATE,
          result: Compare_CompareResult.EQUAL,
          targetUnion: { case: 'createRevision', value: 0n },
        },
      ],
      success: [
        {
          request: {
            case: 'requestPut',
            value: { key: this.#key, value: utf8(this.#machine), lease: this.#lease! },
          },
        },
      ],
      failure: [{ request: { case: 'requestRange', value: { key: this.#key } } }],
    });
    if (answer.succeeded) return true;
    const { response } = answer.responses[0]!;
    const [holder] = response.case === 'responseRange' ? response.value.kvs : [];
    return holder !== undefined && Buffer.from(holder.value).toString() === this.#machine;
  }
}
