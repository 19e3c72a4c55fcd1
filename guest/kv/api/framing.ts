/** gRPC's framing: before each message a byte that says whether it is compressed, and its length in four bytes. */
import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import type { Budget } from './budget.ts';

const PREFIX = 5;
/** As etcd's server takes them: a request of 1.5 MiB and half as much again of whatever is around it. */
export const MAX_MESSAGE = 2 * 1024 * 1024;

/** Puts messages together from chunks. */
export class MessageReader {
  readonly #budget: Budget;
  #parts: Buffer[] = [];
  #length = 0;
  #held = 0;
  #since: number | undefined;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Since when a message has been coming that is not complete. */
  get since(): number | undefined {
    return this.#since;
  }

  /** Whether nothing of a message has come that is not complete. */
  get empty(): boolean {
    return this.#length === 0;
  }

  /** @throws RpcError for a message that is compressed or too large */
  push(chunk: Buffer): void {
    this.#budget.take(chunk.length);
    this.#held += chunk.length;
    this.#parts.push(chunk);
    this.#length += chunk.length;
    this.#since ??= performance.now();
  }

  /** The next whole message, or undefined. */
  next(): Buffer | undefined {
    if (this.#length < PREFIX) return undefined;
    if (this.#parts[0]!.length < PREFIX) this.#parts = [Buffer.concat(this.#parts)];
    const first = this.#parts[0]!;
    if (first[0] !== 0)
      throw new RpcError(status.unimplemented, 'grpc: compressed messages are not taken; send identity');
    const size = first.readUInt32BE(1);
    if (size > MAX_MESSAGE)
      throw new RpcError(
        status.resourceExhausted,
        `grpc: received message larger than max (${size} vs. ${MAX_MESSAGE})`,
      );
    if (this.#length < PREFIX + size) return undefined;
    const all = this.#parts.length === 1 ? first : Buffer.concat(this.#parts, this.#length);
    const rest = all.subarray(PREFIX + size);
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#length = rest.length;
    this.#since = rest.length === 0 ? undefined : performance.now();
    return all.subarray(PREFIX, PREFIX + size);
  }

  /** Gives back to the budget what is not needed any more: all but the part of a message that is not complete. */
  release(): void {
    this.#budget.give(this.#held - this.#length);
    this.#held = this.#length;
  }

  /** Gives everything back. */
  drop(): void {
    this.#parts = [];
    this.#length = 0;
    this.release();
  }
}

/** Of a Buffer, whose `slice` would be a view, what fields of bytes are cut from. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Fields that we do not know are left out: a request is encoded anew, and nothing passes unseen. */
const strict = { readUnknownFields: false } as const;

/** @throws RpcError internal, as gRPC has it, for what is not such a message */
export function parse<I extends DescMessage>(schema: I, bytes: Uint8Array): MessageShape<I> {
  try {
    return fromBinary(schema, plain(bytes), strict);
  } catch (cause) {
    throw new RpcError(
      status.internal,
      `grpc: failed to unmarshal the received message: not a ${schema.typeName}`,
      cause,
    );
  }
}

export function framed<O extends DescMessage>(schema: O, message: MessageInitShape<O>): Buffer {
  const body = toBinary(schema, create(schema, message));
  const frame = Buffer.allocUnsafe(PREFIX + body.length);
  frame[0] = 0;
  frame.writeUInt32BE(body.length, 1);
  frame.set(body, PREFIX);
  return frame;
}
