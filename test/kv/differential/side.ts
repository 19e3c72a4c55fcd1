/**
 * One of the two that are asked the same: a namespace of the store, or a bare etcd. A request is made in the bare etcd's terms, and an
 * answer brought to them, so that answers can be compared as they are.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape } from '@bufbuild/protobuf';
import { type ServiceError, StoreClient } from '../support/client.ts';
import type { RevisionMap } from './revisions.ts';

/** How numbers that each side chooses for itself are named. */
export interface Names {
  /** For a request. */
  revision(bare: bigint): bigint;
  lease(index: number): bigint;
}

/** Who calls; without a token unless it has authenticated. */
export const identities = ['nobody', 'root', 'alice'] as const;
export type Identity = (typeof identities)[number];

export class Side implements Names {
  readonly isStore: boolean;
  readonly address: string;
  readonly clients: Readonly<Record<Identity, StoreClient>>;
  /** By the order of being granted. */
  readonly leases: bigint[] = [];
  readonly #revisions: RevisionMap;

  constructor(address: string, isStore: boolean, revisions: RevisionMap) {
    this.address = address;
    this.isStore = isStore;
    this.#revisions = revisions;
    const clients = identities.map((name) => [name, new StoreClient(address)]);
    this.clients = Object.fromEntries(clients) as Record<Identity, StoreClient>;
  }

  revision(bare: bigint): bigint {
    return this.isStore ? this.#revisions.storeOf(bare) : bare;
  }

  /** One that nobody has for an index that was not granted. */
  lease(index: number): bigint {
    return this.leases[index] ?? 4_242_424_242n;
  }

  /** The answer as it came, or the refusal. */
  async ask<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    identity: Identity,
  ): Promise<Outcome> {
    try {
      return { answer: await this.clients[identity].call(method, request, 10_000) };
    } catch (error) {
      const { code, details } = error as ServiceError;
      // What is too large for gRPC has a few bytes more or less, by the numbers in it.
      return { refused: { code, details: details.replace(/\(\d{7,} vs/, '(many vs') } };
    }
  }

  /** An answer in the bare etcd's terms. */
  normal(value: unknown, name = ''): unknown {
    if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
    if (typeof value === 'bigint') return this.#number(value, name);
    if (Array.isArray(value)) return value.map((one) => this.normal(one, name));
    if (typeof value !== 'object' || value === null) return name === 'token' ? 'a token' : value;
    const fields = Object.entries(value).filter(([field]) => field !== '$typeName' && field !== '$unknown');
    if (name === 'header') {
      const { revision } = value as { revision: bigint };
      return { revision: this.isStore ? this.#revisions.bareUntil(revision) : revision };
    }
    return Object.fromEntries(fields.map(([field, one]) => [field, this.normal(one, field)]));
  }

  #number(value: bigint, name: string): unknown {
    if (value === 0n) return value;
    if (['createRevision', 'modRevision', 'compactRevision'].includes(name))
      return this.isStore ? (this.#revisions.bareOf(value) ?? `unknown revision ${value}`) : value;
    if (name === 'lease' || name === 'ID') {
      const index = this.leases.indexOf(value);
      return index === -1 ? `lease ${value}` : `lease #${index}`;
    }
    // A second may pass between two requests.
    if (name === 'TTL') return value < 0n ? value : `about ${((value + 5n) / 20n) * 20n}`;
    // Each counts its own changes of users and roles.
    return name === 'authRevision' ? 'a revision' : value;
  }

  close(): void {
    for (const client of Object.values(this.clients)) client.close();
  }
}

export type Outcome =
  | { readonly answer: unknown; readonly refused?: never }
  | { readonly answer?: never; readonly refused: { readonly code: number; readonly details: string } };
