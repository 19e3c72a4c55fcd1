/** The carriers that a host's settings name. A new one is a file of its own, a line here, and its settings. */
import type { Log } from '../../lib/daemon/log.ts';
import type { Store } from '../../lib/framework/store.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { Desk } from '../records/wire/asking.ts';
import { CalldataCarrier, type CalldataChain, type CalldataSettings } from './calldata/carrier.ts';
import type { Carrier } from './carrier.ts';
import { HttpCarrier } from './http-carrier.ts';
import { RecordsCarrier, type RecordsSettings } from './records-carrier.ts';

export type { Desk };

export interface CarrierSettings {
  /** Base URLs of other relays. */
  gossipPeers: readonly string[];
  /** How messages travel as records; absent: they do not. */
  records?: RecordsSettings;
  /** How messages travel as calldata; absent: they do not. */
  calldata?: CalldataSettings;
}

/** What every carrier is given: whose gossip it is, a store for where it stands, and a log. */
export interface CarrierShared {
  domain: Domain;
  store: Store;
  log: Log;
  /** For a carrier by the network's own chain. */
  chain: CalldataChain;
  /** What a source did against the rules, for the metrics. */
  onCharge?: (source: string, code: string) => void;
  /** Answers what relays ask for beside messages, where a carrier lets them; absent: nobody does. */
  desk?: Desk;
}

export function carriersOf(settings: CarrierSettings, shared: CarrierShared): Carrier[] {
  const { gossipPeers, records, calldata } = settings;
  return [
    new HttpCarrier({ peers: gossipPeers, ...shared }),
    ...(records === undefined ? [] : [new RecordsCarrier({ ...records, ...shared })]),
    ...(calldata === undefined ? [] : [new CalldataCarrier({ ...calldata, ...shared })]),
  ];
}
