/** A signer of a test: the daemon in this process, on a store and a secret of the test's. */
import { randomBytes } from 'node:crypto';
import { recordKey } from '../../../guest/signer/chain-signer.ts';
import { parseConfig } from '../../../guest/signer/config.ts';
import { type DaemonOptions, openStore, SignerDaemon } from '../../../guest/signer/daemon.ts';
import { keysOf, networkSeed, type SignerSecret } from '../../../guest/signer/keys.ts';
import { EtcdRecords } from '../../../guest/signer/records.ts';
import type { ProtocolVersion } from '../../../lib/cometbft/consensus.ts';
import { ed25519Key } from '../../../lib/cometbft/ed25519.ts';
import { encodeState, NOTHING_SIGNED } from '../../../lib/cometbft/sign-state.ts';
import { EtcdClient } from '../../../lib/etcd/client.ts';

export const quiet = { info: () => {}, warn: () => {} };

export function testSecret(): SignerSecret {
  return { secret: new Uint8Array(randomBytes(32)), epoch: 0 };
}

export function publicKeyOf(secret: SignerSecret, chain: string): Uint8Array {
  return ed25519Key(networkSeed(secret, chain)).publicKey;
}

/** The record of a key that never signed. */
export async function freshRecord(
  endpoints: readonly string[],
  secret: SignerSecret,
  chain: string,
): Promise<void> {
  const client = new EtcdClient({ endpoints });
  try {
    await new EtcdRecords(client).swap(
      recordKey(chain, publicKeyOf(secret, chain)),
      undefined,
      encodeState(NOTHING_SIGNED),
    );
  } finally {
    client.close();
  }
}

export interface Chain {
  readonly id: string;
  readonly protocol: ProtocolVersion;
  readonly nodes: readonly string[];
  readonly more?: string;
}

export function configText(endpoints: readonly string[], chains: readonly Chain[]): string {
  return [
    '[store]',
    `endpoints = ${JSON.stringify(endpoints)}`,
    'accept_host_rollback = true',
    ...chains.flatMap(({ id, protocol, more = '' }) => [
      '[[chain]]',
      `id = "${id}"`,
      `protocol_version = "${protocol}"`,
      more,
    ]),
    ...chains.flatMap(({ id, nodes }) =>
      nodes.flatMap((address) => ['[[validator]]', `chain_id = "${id}"`, `address = "${address}"`]),
    ),
  ].join('\n');
}

type More = Pick<DaemonOptions, 'times' | 'gate' | 'machine'>;

export function startSigner(
  endpoints: readonly string[],
  secret: SignerSecret,
  chains: readonly Chain[],
  more: More = {},
): Promise<SignerDaemon> {
  return startWith(configText(endpoints, chains), secret, more);
}

/** The same by a whole configuration. */
export function startWith(text: string, secret: SignerSecret, more: More = {}): Promise<SignerDaemon> {
  const config = parseConfig(text);
  const store = openStore(config);
  return SignerDaemon.start({ config, store, keys: keysOf(secret, store.records), log: quiet, ...more });
}
