/**
 * A node that the test plays itself. In the sim flavour anyone can forge a quote, because its root key is published. So the test
 * can be onboarded, and then knows the secret and everything derived from it, which makes an exact search possible even for keys
 * that no app and no port ever gives out.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { JsonRpcProvider, Wallet } from 'ethers';
import type { Static, TSchema } from 'typebox';
import { diskKeys } from '../../../guest/disk/tables.ts';
import { NodeClient } from '../../../host/node-client.ts';
import { openImage, registersOf } from '../../../host/vm/image.ts';
import { fromHex } from '../../../lib/protocol/encoding.ts';
import { parseAddress } from '../../../lib/protocol/hex.ts';
import {
  appAuthorityKey,
  appIdentityKey,
  appKey,
  deriveKey,
  diskKey,
  networkKey,
  tlsKey,
} from '../../../lib/protocol/keys.ts';
import { onboardCall, registerCall } from '../../../lib/protocol/onboarding-calls.ts';
import {
  AnswerMessageSchema,
  nodePaths,
  type RequestMessage,
  requestOf,
  SealedMessageSchema,
} from '../../../lib/protocol/onboarding-messages.ts';
import { check } from '../../../lib/protocol/schema.ts';
import type { DemoNetwork } from '../../../scripts/demo/host.ts';
import { waitFor } from '../../../scripts/demo/steps.ts';
import { forgeRequest } from '../../support/forge.ts';
import type { Secret } from './encodings.ts';

const EPOCH = 1;

/**
 * @returns the network's secret, 32 bytes, as the node behind `nodeUrl` seals it to whoever may have it: once the answer is
 * on chain, so that the network has one node more
 */
export async function takeSecret(
  network: DemoNetwork,
  imageFolder: string,
  nodeUrl: string,
  gasKey: string,
): Promise<Uint8Array> {
  const image = await openImage(imageFolder);
  const rpc = new JsonRpcProvider(network.rpcUrl, network.chainId, { staticNetwork: true, cacheTimeout: -1 });
  try {
    const { message, kem } = await forgeRequest(
      {
        rpc,
        domain: { chainId: network.chainId, contract: parseAddress(network.contract) },
        contract: network.contract,
        networkJson: readFileSync(join(network.folder, 'network.json'), 'utf8'),
        directory: network.folder,
      },
      { registers: await registersOf(image, image.manifest.defaultShape) },
    );
    const wallet = new Wallet(gasKey, rpc);
    const post = async (data: string) => {
      const sent = await wallet.sendTransaction({ to: network.contract, data });
      await sent.wait();
    };
    await post(registerCall(message));
    const answer = await asked(nodeUrl, nodePaths.onboard, message, AnswerMessageSchema);
    await post(onboardCall(answer));
    const { sealed } = await asked(nodeUrl, nodePaths.sealed, message, SealedMessageSchema);
    return await kem.open(fromHex(sealed), requestOf(message).hash);
  } finally {
    rpc.destroy();
  }
}

/** The node's reply to the spy's request, as soon as it sees on chain what it requires. */
async function asked<T extends TSchema>(
  nodeUrl: string,
  path: string,
  message: RequestMessage,
  schema: T,
): Promise<Static<T>> {
  let refusal = '';
  return waitFor<Static<T>>(
    `a node to answer the spy's ${path}`,
    async () => {
      try {
        const reply = await new NodeClient(nodeUrl).request(path, message);
        return check(schema, reply, 'NODE_REPLY', 'what the node answers');
      } catch (error) {
        refusal = (error as Error).message;
        return undefined;
      }
    },
    600,
    () => refusal,
  );
}

/** Everything that derives from the secret and must stay in the VMs. @param diskIds 32 hex digits each */
export function derivedSecrets(
  secret: Uint8Array,
  diskIds: readonly string[],
  apps: readonly { app: string; tags: readonly string[] }[],
): Secret[] {
  return [
    { name: "the network's secret", bytes: secret },
    { name: 'the network key', bytes: networkKey(secret, EPOCH).privateKey },
    { name: 'the network key before its reduction', bytes: deriveKey(secret, EPOCH, 'network-key', [], 48) },
    { name: 'the TLS key', bytes: tlsKey(secret, EPOCH) },
    { name: 'the TLS key before its reduction', bytes: deriveKey(secret, EPOCH, 'tls', [], 48) },
    ...diskIds.flatMap((id) => {
      const key = diskKey(secret, EPOCH, fromHex(id, 16));
      const { superblockMac, crypt, journalMac } = diskKeys(key);
      const parts = { key, 'MAC key': superblockMac, 'journal key': journalMac };
      return [
        ...Object.entries(parts).map(([name, bytes]) => ({ name: `disk ${id}: the ${name}`, bytes })),
        // The three keys of dm-crypt's authenc, each by itself.
        ...[0, 32, 64].map((at) => ({
          name: `disk ${id}: dm-crypt's key at ${at}`,
          bytes: crypt.subarray(at, at + 32),
        })),
      ];
    }),
    ...apps.flatMap(({ app, tags }) =>
      tags.map((tag) => ({ name: `${app}'s key ${tag}`, bytes: appKey(secret, EPOCH, app, tag) })),
    ),
    ...apps.flatMap(({ app }) => [
      { name: `${app}'s identity key`, bytes: appIdentityKey(secret, EPOCH, app) },
      { name: `${app}'s authority`, bytes: appAuthorityKey(secret, EPOCH, app) },
    ]),
  ];
}
