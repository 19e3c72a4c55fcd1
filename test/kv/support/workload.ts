/** Clients that work on few keys at once, and the history of what they saw. */
import type { MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import {
  type CompareSchema,
  KV,
  type RangeResponseSchema,
  type RequestOpSchema,
  type ResponseOpSchema,
  type TxnResponseSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import type { KeyValue } from '../../../lib/etcd/gen/mvcc_pb.js';
import { Random } from '../../torture/random.ts';
import type { Answer, Comparison, Entry, Operation, Result, Step } from '../checker/history.ts';
import { isReadOnly } from '../checker/history.ts';
import { randomOperation } from '../checker/random-operation.ts';
import { neverLeft, StoreClient } from './client.ts';

export interface WorkloadOptions {
  readonly address: string;
  readonly seed: number;
  readonly clients: number;
  readonly keys: number;
  /** Between two operations of a client, at most. */
  readonly pauseMs: number;
}

/** Runs until `stop`, which returns once every client has heard of its last operation. */
export class Workload {
  readonly history: Operation[] = [];
  /** What failed in a way that says that nothing happened. */
  refused = 0;
  readonly #options: WorkloadOptions;
  readonly #clients: Promise<void>[];
  #stopped = false;

  constructor(options: WorkloadOptions) {
    this.#options = options;
    this.#clients = Array.from({ length: options.clients }, (_, number) => this.#work(number));
  }

  async stop(): Promise<Operation[]> {
    this.#stopped = true;
    await Promise.all(this.#clients);
    return this.history;
  }

  async #work(number: number): Promise<void> {
    const { address, seed, keys, pauseMs } = this.#options;
    const random = new Random(seed * 1_000 + number);
    const client = new StoreClient(address);
    const seen = new Map<string, number>();
    for (let n = 0; !this.#stopped; n += 1) {
      const operation = randomOperation(random, keys, `${number}.${n}`, seen);
      const called = performance.now();
      try {
        const answer = await perform(client, operation);
        this.history.push({ ...operation, client: number, called, returned: performance.now(), answer });
        remember(seen, operation, answer);
      } catch (error) {
        if (neverLeft(error)) this.refused += 1;
        else if (!isReadOnly(operation))
          this.history.push({ ...operation, client: number, called, returned: Number.POSITIVE_INFINITY });
        await this.#back(client);
      }
      await pause(random.between(0, pauseMs));
    }
    client.close();
  }

  /** Each failure may leave an operation whose outcome nobody knows: no new one before the store is back. */
  async #back(client: StoreClient): Promise<void> {
    while (!this.#stopped) {
      await pause(30);
      const answer = client.call(KV.method.range, { key: bytes('?') }, 2_000);
      if (await answer.then(() => true).catch(() => false)) return;
    }
  }
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const bytes = (text: string) => Buffer.from(text);
const text = (raw: Uint8Array) => Buffer.from(raw).toString();

/** A client that saw a revision compares with it next time. */
function remember(seen: Map<string, number>, operation: Shape, answer: Answer): void {
  const steps = answer.succeeded ? operation.success : operation.failure;
  for (const [n, { kind, key }] of steps.entries()) {
    const result = answer.results[n];
    if (kind === 'put') seen.set(key, answer.revision!);
    else if (kind === 'delete') seen.delete(key);
    else if (result?.kind === 'get') seen.set(key, result.entry?.mod ?? 0);
  }
}

type Shape = Pick<Operation, 'comparisons' | 'success' | 'failure'>;

/** Plain operations go out as such, others as transactions. */
async function perform(client: StoreClient, { comparisons, success, failure }: Shape): Promise<Answer> {
  const [only, ...more] = success;
  if (comparisons.length > 0 || more.length > 0 || only === undefined) {
    const answer = await client.call(KV.method.txn, {
      compare: comparisons.map(compareOf),
      success: success.map(requestOf),
      failure: failure.map(requestOf),
    });
    return answerOf(answer, answer.succeeded ? success : failure);
  }
  const { case: kind, value } = requestOf(only).request!;
  const call = async (): Promise<MessageShape<typeof ResponseOpSchema>['response']> => {
    if (kind === 'requestRange')
      return { case: 'responseRange', value: await client.call(KV.method.range, value) };
    if (kind === 'requestPut') return { case: 'responsePut', value: await client.call(KV.method.put, value) };
    if (kind === 'requestDeleteRange')
      return { case: 'responseDeleteRange', value: await client.call(KV.method.deleteRange, value) };
    throw new Error(`${kind} is no plain operation`);
  };
  const response = await call();
  const header = (response.value as { header?: { revision: bigint } }).header;
  return { succeeded: true, revision: Number(header!.revision), results: [resultOf(response, only)] };
}

function compareOf(comparison: Comparison): MessageInitShape<typeof CompareSchema> {
  const key = bytes(comparison.key);
  if (comparison.target === 'value')
    return { key, target: 3, targetUnion: { case: 'value', value: bytes(comparison.equals) } };
  const value = BigInt(comparison.equals);
  if (comparison.target === 'version') return { key, target: 0, targetUnion: { case: 'version', value } };
  if (comparison.target === 'create')
    return { key, target: 1, targetUnion: { case: 'createRevision', value } };
  return { key, target: 2, targetUnion: { case: 'modRevision', value } };
}

function requestOf(step: Step): MessageInitShape<typeof RequestOpSchema> {
  const key = bytes(step.key);
  switch (step.kind) {
    case 'get':
      return { request: { case: 'requestRange', value: { key } } };
    case 'list':
      return { request: { case: 'requestRange', value: { key, rangeEnd: endOf(step.key) } } };
    case 'put':
      return { request: { case: 'requestPut', value: { key, value: bytes(step.value) } } };
    case 'delete':
      return { request: { case: 'requestDeleteRange', value: { key } } };
  }
}

/** The first key after those that begin so; they end with `/`. */
const endOf = (prefix: string) => bytes(`${prefix.slice(0, -1)}0`);

function answerOf(answer: MessageShape<typeof TxnResponseSchema>, steps: readonly Step[]): Answer {
  return {
    succeeded: answer.succeeded,
    revision: Number(answer.header!.revision),
    results: steps.map((step, n) => resultOf(answer.responses[n]!.response, step)),
  };
}

function resultOf(response: MessageShape<typeof ResponseOpSchema>['response'], step: Step): Result {
  switch (response.case) {
    case 'responsePut':
      return { kind: 'put' };
    case 'responseDeleteRange':
      return { kind: 'delete', deleted: Number(response.value.deleted) };
    case 'responseRange':
      return rangeResult(response.value, step);
    default:
      throw new Error(`no answer to ${step.kind}`);
  }
}

function rangeResult({ kvs }: MessageShape<typeof RangeResponseSchema>, { kind }: Step): Result {
  if (kind === 'get') return { kind, ...(kvs[0] && { entry: entryOf(kvs[0]) }) };
  const entries = kvs.map((kv): [string, Entry] => [text(kv.key), entryOf(kv)]);
  return { kind: 'list', entries: Object.fromEntries(entries) };
}

function entryOf({ value, createRevision, modRevision, version }: KeyValue): Entry {
  return {
    value: text(value),
    create: Number(createRevision),
    mod: Number(modRevision),
    version: Number(version),
  };
}
