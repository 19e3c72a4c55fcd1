/** At which names clients outside of the VM reach an app's part of the store: the only ones that a certificate of the store is made for. */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { StoreConfig } from '../../lib/protocol/network-config.ts';

/** @throws NO_STORE_CLIENTS for an app whose part is open to nobody outside */
export function storeNames(store: StoreConfig | undefined, app: string): readonly string[] {
  const { clients = {} } = store ?? {};
  const own = Object.hasOwn(clients, app) ? clients[app] : undefined;
  if (own === undefined)
    throw new DstackError(
      'NO_STORE_CLIENTS',
      `network.json opens nothing of ${app} in the store to clients outside`,
    );
  return own.names;
}
