/** One stream of watches on each side, with the same watches on both: what they are told has to be the same. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import {
  Watch,
  type WatchCreateRequest_FilterType,
  type WatchCreateRequestSchema,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
} from '../../../lib/etcd/gen/watch_pb.js';
import type { Random } from '../../torture/random.ts';
import { type Known, someKeys } from './operations.ts';
import type { Names, Side } from './side.ts';

type Wanted = (names: Names) => MessageInitShape<typeof WatchCreateRequestSchema>;

/** The stream of one side. */
class Watched {
  readonly side: Side;
  readonly #stream: ClientDuplexStream<WatchRequest, WatchResponse>;
  /** Of each watch, in the order of their arrival: created, events, cancelled. What different watches are told has no order. */
  readonly said = new Map<bigint, unknown[]>();
  /** How often a watch was created, or was not. */
  created = 0;
  ended: string | undefined;

  constructor(side: Side) {
    this.side = side;
    this.#stream = side.clients.nobody.stream(Watch.method.watch);
    this.#stream.on('data', (response: WatchResponse) => this.#take(response));
    this.#stream.on('error', (error) => {
      this.ended ??= error.message;
    });
  }

  send(request: MessageInitShape<typeof WatchRequestSchema>): void {
    this.#stream.write(create(WatchRequestSchema, request));
  }

  close(): void {
    this.ended ??= 'closed';
    this.#stream.cancel();
  }

  #take(response: WatchResponse): void {
    const { watchId, events, created, canceled, compactRevision, cancelReason } = response;
    if (created) this.created += 1;
    const list = this.said.get(watchId) ?? [];
    // Brought to the bare etcd's terms when they are compared: a revision may not be known yet.
    if (events.length > 0) list.push(...events);
    else list.push({ created, canceled, compactRevision, cancelReason });
    this.said.set(watchId, list);
  }
}

export class Watches {
  readonly #sides: readonly [Watched, Watched];
  /** Messages and events that were compared. */
  compared = 0;
  #lastCreated = 0;

  constructor(store: Side, bare: Side) {
    this.#sides = [new Watched(store), new Watched(bare)];
  }

  /** Returns once both have answered. */
  async create(wanted: Wanted): Promise<void> {
    const before = this.#sides.map(({ created }) => created);
    for (const watched of this.#sides)
      watched.send({ requestUnion: { case: 'createRequest', value: wanted(watched.side) } });
    await this.#until(() => this.#sides.every(({ created }, n) => created > before[n]!));
    this.#lastCreated = Date.now();
  }

  async cancel(watchId: bigint): Promise<void> {
    await this.#caughtUp();
    for (const watched of this.#sides)
      watched.send({ requestUnion: { case: 'cancelRequest', value: { watchId } } });
  }

  /** Waits until both were told as much, then compares all of it. @returns what differs */
  async settle(): Promise<string[]> {
    await this.#caughtUp();
    const [store, bare] = this.#sides;
    const counts = ({ said }: Watched) =>
      show([...said].map(([id, list]) => [Number(id), list.length]).sort());
    await this.#until(() => counts(store) === counts(bare));
    const differences = [...new Set([...store.said.keys(), ...bare.said.keys()])].flatMap((id) => {
      const [ours, theirs] = this.#sides.map(({ side, said }) =>
        (said.get(id) ?? []).map((one) => side.normal(one)),
      ) as [unknown[], unknown[]];
      this.compared += theirs.length;
      const at = Array.from({ length: Math.max(ours.length, theirs.length) }).findIndex(
        (_, n) => show(ours[n]) !== show(theirs[n]),
      );
      if (at === -1) return [];
      return `message ${at} of watch ${id} (${ours.length} and ${theirs.length}): ${show(ours[at])}, etcd ${show(theirs[at])}`;
    });
    for (const { ended, side, said } of this.#sides) {
      said.clear();
      if (ended !== undefined) differences.push(`the watches at ${side.address} ended: ${ended}`);
    }
    return differences;
  }

  close(): void {
    for (const watched of this.#sides) watched.close();
  }

  /** etcd brings a watch of earlier revisions up to date within 100 ms; what is compacted or cancelled until then it may have seen or not. */
  async #caughtUp(): Promise<void> {
    await this.#until(() => Date.now() > this.#lastCreated + 250);
  }

  async #until(done: () => boolean): Promise<void> {
    for (const until = Date.now() + 60_000; !done() && Date.now() < until; )
      await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Equal for equal values. */
export function show(value: unknown): string {
  const text = JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one));
  return text ?? 'nothing';
}

export function randomWatch(random: Random, { revision, compacted }: Known): Wanted {
  const start = random.pick([0n, 0n, revision, revision + 1n, compacted, compacted + 1n, 1n]);
  const filters = random.chance(0.3)
    ? [random.between(0, 1) as WatchCreateRequest_FilterType]
    : random.chance(0.05)
      ? [0, 1]
      : [];
  const plain = {
    ...someKeys(random),
    filters,
    prevKv: random.chance(0.4),
    fragment: random.chance(0.3),
    watchId: random.chance(0.1) ? BigInt(random.between(1, 6)) : 0n,
  };
  return (names) => ({
    ...plain,
    startRevision: start > revision ? names.revision(revision) + 1n : names.revision(start),
  });
}
