/** Logs that exchange what they hold as records, over real connections on the loopback. */
import { onTestFinished } from 'vitest';
import { openStore, type Store } from '../../lib/framework/store.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import type { Address } from '../records/wire/wire.ts';
import { someKinds } from './gossip.fixture.ts';
import { Gossip, type GossipOptions } from './gossip.ts';
import { MessageRecords } from './message-records.ts';
import { RecordsCarrier, type RecordsCarrierOptions } from './records-carrier.ts';

/** Of `someRequest`. */
export const DOMAIN = { chainId: 1, contract: parseAddress(`0x${'1'.padStart(40, '0')}`) };
export const RECORDS = new MessageRecords(DOMAIN);
/** A comparison is soon over, and the next is soon. */
const LIMITS = { interval: 300, again: 100, redial: [50, 200], deliveredWithin: 5_000 } as const;

export interface RecordsHost {
  gossip: Gossip<unknown>;
  carrier: RecordsCarrier;
  /** Where it listens. */
  at: Address;
  charges: string[];
  /** Lines of its log. */
  said: string[];
  close(): Promise<void>;
}

export interface RecordsHostOptions {
  peers?: readonly Address[];
  kinds?: GossipOptions<unknown>['kinds'];
  carrier?: Partial<RecordsCarrierOptions>;
  limits?: GossipOptions<unknown>['limits'];
  store?: Store;
  /** Beside the one by records. */
  carriers?: GossipOptions<unknown>['carriers'];
}

/** Started, and closed after the test if not before. */
export async function recordsHost(options: RecordsHostOptions = {}): Promise<RecordsHost> {
  const { peers = [], kinds = someKinds(), limits, carriers = [], store = openStore(':memory:') } = options;
  const charges: string[] = [];
  const said: string[] = [];
  const carrier = new RecordsCarrier({
    domain: DOMAIN,
    store,
    log: {
      info: (_, text) => said.push(text),
      warn: (fields, text) => said.push(`${text}: ${(fields as { code?: string }).code}`),
    },
    listen: { host: '127.0.0.1', port: 0 },
    peers,
    onCharge: (_, code) => charges.push(code),
    ...options.carrier,
    limits: { ...LIMITS, ...options.carrier?.limits },
  });
  const gossip = new Gossip<unknown>({
    store,
    kinds,
    context: () => undefined,
    carriers: [carrier, ...carriers],
    log: { warn() {} },
    ...(limits && { limits }),
  });
  await gossip.listen();
  gossip.start();
  const [key, port] = carrier.address()!.split(/@.*:/) as [string, string];
  let closed: Promise<void> | undefined;
  const close = () => (closed ??= gossip.close());
  onTestFinished(close);
  return { gossip, carrier, at: { host: '127.0.0.1', port: Number(port), key }, charges, said, close };
}
