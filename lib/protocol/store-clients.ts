/** Clients of the store outside of the VM, as the network's owner names them in network.json: by app, where they ask and who certifies them. */
import { X509Certificate } from 'node:crypto';
import type { StoreConfig } from './network-config.ts';

/** Why nobody could tell from it who may come in; undefined if one can. */
export function unusableClients({ clients = {} }: StoreConfig): string | undefined {
  const apps = new Map<string, string>();
  for (const [app, { names, authorities }] of Object.entries(clients)) {
    for (const name of names) {
      const other = apps.get(name);
      if (other !== undefined)
        return `store.clients: ${name} is a name of ${other} and of ${app}; by it a client's app is found, so it is one app's`;
      apps.set(name, app);
    }
    const wrong = authorities.findIndex((pem) => !isAuthority(pem));
    if (wrong >= 0)
      return `store.clients.${app}.authorities: number ${wrong + 1} is no certificate of an authority (basicConstraints CA:TRUE)`;
  }
  return undefined;
}

function isAuthority(pem: string): boolean {
  try {
    return new X509Certificate(pem).ca;
  } catch {
    return false;
  }
}
