/**
 * What of the store everyone may read in its ledger: keys that the network's owner names in network.json, by app and by what they begin with. Of
 * all others a leaf has salted hashes alone (docs/ledger.md).
 */
import { utf8 } from './encoding.ts';
import type { StoreConfig } from './network-config.ts';

/** So that the policy, which is a value of the store too, can be read whole in its own leaf (lib/ledger/leaf.ts): 1,024 bytes of JSON and hex. */
const MOST_PREFIXES = 32;
const MOST_BYTES = 400;

/** The prefixes as keys of etcd have them, in one order whatever that of network.json. */
export function publicPrefixes({ public: named = {} }: StoreConfig = {}): Uint8Array[] {
  const prefixes = Object.entries(named).flatMap(([app, own]) => own.map((prefix) => `a/${app}/${prefix}`));
  return prefixes.sort().map(utf8);
}

/** Why it is too much for a policy; undefined if it is not. */
export function tooPublic(config: StoreConfig): string | undefined {
  const prefixes = publicPrefixes(config);
  const bytes = prefixes.reduce((sum, { length }) => sum + length, 0);
  return prefixes.length <= MOST_PREFIXES && bytes <= MOST_BYTES
    ? undefined
    : `store.public has ${prefixes.length} prefixes of ${bytes} bytes, each with a/<app>/ before it; it may have ${MOST_PREFIXES} of ${MOST_BYTES} bytes in all`;
}
