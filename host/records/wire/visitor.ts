/**
 * Who only wants to ask another node something beside records: a program that is no node. It has no records, takes none, and goes again. Its key is of
 * this visit.
 */
import { randomBytes } from 'node:crypto';
import { keyPairOf } from '../../../lib/noise/x25519.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { Address } from './address.ts';
import type { RecordStore } from './types.ts';
import { RecordWire, type WireEvent } from './wire.ts';

export interface Visit {
  /** @throws WIRE_* when there is no answer */
  ask(what: Uint8Array): Promise<Uint8Array>;
  end(): Promise<void>;
}

/**
 * Connects with the node at an address, once.
 * @param network identity of the records of which the node is one, in hex
 * @throws WIRE_UNREACHABLE, WIRE_KEY, NOISE_* and whatever else the connection ends with before it stands
 */
export async function visit(address: Address, network: string): Promise<Visit> {
  const connected = Promise.withResolvers<string>();
  const wire = new RecordWire({
    store: nothing(network),
    staticKey: keyPairOf(randomBytes(32)),
    onEvent: ({ kind, key, code, cause }: WireEvent) => {
      if (kind === 'connected') connected.resolve(key!);
      else {
        const where = `${address.host}, port ${address.port}`;
        const message = `there is no connection with the node at ${where}: ${(cause as Error)?.message ?? code}`;
        connected.reject(new DstackError(code ?? 'WIRE_CLOSED', message, { cause }));
      }
    },
  });
  try {
    wire.dial(address);
    const key = await connected.promise;
    return { ask: (what) => wire.ask(key, what), end: () => wire.stop() };
  } catch (error) {
    await wire.stop();
    throw error;
  }
}

/** What is compared with the node's records, of which none is fetched. */
function nothing(network: string): RecordStore {
  const stopped = new DstackError('RECORDS_STOPPED', 'a visitor takes no records');
  return {
    network,
    stopped,
    has: () => false,
    lacksValue: () => false,
    lackingValues: () => [],
    inOrder: () => [],
    get: () => undefined,
    add: () => Promise.reject(stopped),
    subscribe: () => () => {},
    forget: () => {},
    items: () => [],
  };
}
