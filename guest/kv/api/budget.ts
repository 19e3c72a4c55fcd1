/** Bytes of requests that are not complete or not answered: what a connection may hold of them, a caller, and all together. Who wants more is refused. */
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import type { Caller } from '../types.ts';

interface Bytes {
  /** @throws RpcError resource exhausted */
  take(bytes: number): void;
  give(bytes: number): void;
}

export class Budget implements Bytes {
  #left: number;
  readonly #parent: Bytes | undefined;

  constructor(bytes: number, parent?: Bytes) {
    this.#left = bytes;
    this.#parent = parent;
  }

  /** @throws RpcError resource exhausted */
  take(bytes: number): void {
    if (this.#left < bytes) throw tooMany();
    this.#parent?.take(bytes);
    this.#left -= bytes;
  }

  give(bytes: number): void {
    this.#left += bytes;
    this.#parent?.give(bytes);
  }
}

/** Of what is left when it has it, a caller has half at most: so however many hold what they can, there is some for the next one. */
const PART = 1 / 2;

/** What all callers share. */
export class Pool {
  #left: number;
  /** By namespace; those that hold nothing are not there. */
  readonly #held = new Map<string, number>();

  constructor(bytes: number) {
    this.#left = bytes;
  }

  /** A caller's part, whatever connections it has. */
  of({ prefix }: Pick<Caller, 'prefix'>): Bytes {
    const id = Buffer.from(prefix).toString('latin1');
    return {
      take: (bytes) => {
        const held = (this.#held.get(id) ?? 0) + bytes;
        if (held > (this.#left - bytes) * PART) throw tooMany();
        this.#left -= bytes;
        this.#held.set(id, held);
      },
      give: (bytes) => {
        const held = (this.#held.get(id) ?? 0) - bytes;
        this.#left += bytes;
        if (held === 0) this.#held.delete(id);
        else this.#held.set(id, held);
      },
    };
  }
}

const tooMany = () => new RpcError(status.resourceExhausted, 'etcdserver: too many requests');
