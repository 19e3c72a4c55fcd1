/** `app …`: what an app's author and the network's owner do to get containers into the VMs. */
import { existsSync } from 'node:fs';
import type { Head } from '../../lib/chain/chain-client.ts';
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ZERO_WORD } from '../../lib/protocol/hex.ts';
import { appId, manifestHash } from '../../lib/protocol/manifest.ts';
import {
  type AppView,
  decodeAppOf,
  encodeAppOf,
  encodeRollback,
  encodeRollout,
  encodeWithdraw,
} from '../../lib/protocol/network-contract.ts';
import { manifestLines } from '../app/describe.ts';
import { type Command, typed, UsageError } from '../command.ts';
import { instant } from '../instant.ts';
import { act, openOwner, ownerOptions } from '../owner/act.ts';
import { type NetworkConnection, readGiven } from '../owner/connection.ts';
import { diff, manifestOfApp } from './app-diff.ts';
import { pack } from './app-pack.ts';
import { secretCommands } from './app-secret.ts';
import { logs, ps, status } from './app-status.ts';
import { appList } from './network-list.ts';
import { fromWhen } from './network-policy.ts';

const rollout: Command = {
  name: 'app rollout',
  summary: "makes every node run this manifest, after the network's delay",
  positionals: ['NAME', 'MANIFEST'],
  options: ownerOptions,
  async run(args) {
    const [app, manifest] = args.positionals as [string, string];
    const id = to0x(typed(() => appId(app)));
    const { hash, about } = await namedManifest(app, manifest);
    const wanted = { app: id, manifestHash: hash };
    const owner = await openOwner(args);
    await requireNew(owner, app, wanted);
    await act(args, owner, {
      data: encodeRollout(wanted),
      effect: [`every node runs this manifest of ${app}, ${await fromWhen(owner)}`, ...about],
      async proof(at) {
        const shown = await appOf(owner, wanted.app, at);
        return shown.latest === wanted.manifestHash
          ? { done: [`${app} runs ${shown.latest} from ${instant(shown.from)}`] }
          : { instead: `${shown.latest} as the latest manifest of ${app}` };
      },
    });
  },
};

/**
 * The contract accepts the same manifest a second time: the one in force would become its own previous one, leaving nothing to roll
 * back to, and a pending one would restart its delay.
 *
 * @throws ALREADY_ROLLED_OUT
 */
async function requireNew(
  owner: NetworkConnection,
  name: string,
  { app, manifestHash }: { app: string; manifestHash: string },
): Promise<void> {
  const shown = await appOf(owner, app, await owner.chain.head());
  const isPending = shown.latest !== shown.manifestHash;
  if (shown.manifestHash === manifestHash) {
    const instead = isPending ? `; to cancel the rollout that is pending: app rollback ${name}` : '';
    throw new DstackError('ALREADY_ROLLED_OUT', `${name} runs ${manifestHash} already${instead}`);
  }
  if (isPending && shown.latest === manifestHash) {
    throw new DstackError(
      'ALREADY_ROLLED_OUT',
      `${manifestHash} of ${name} is pending and takes effect at ${instant(shown.from)}; a repeated rollout would restart its delay`,
    );
  }
}

/**
 * 32 bytes of hex are taken as they are; a manifest file is checked first, as the nodes will check it, and everything in it is
 * shown: it may be from somebody else.
 */
async function namedManifest(
  app: string,
  manifest: string,
): Promise<{ readonly hash: string; readonly about: readonly string[] }> {
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(manifest)) return { hash: to0x(fromHex(manifest, 32)), about: [] };
  if (/^0x|^[0-9a-f]+$/i.test(manifest) && !existsSync(manifest))
    throw new UsageError(`a manifest is a file or its hash, 64 hex digits, and not ${manifest}`);
  const bytes = readGiven('the manifest', manifest);
  const parsed = manifestOfApp(app, bytes, manifest);
  return { hash: to0x(manifestHash(bytes)), about: manifestLines(parsed) };
}

const rollback: Command = {
  name: 'app rollback',
  summary: 'goes back to the previous manifest, at once',
  positionals: ['NAME'],
  options: ownerOptions,
  async run(args) {
    const [name] = args.positionals as [string];
    const app = to0x(typed(() => appId(name)));
    const owner = await openOwner(args);
    const before = await appOf(owner, app, await owner.chain.head());
    await act(args, owner, {
      data: encodeRollback({ app }),
      effect: [`${name} goes back from ${manifestText(before.latest)} to the manifest before it, at once`],
      async proof(at) {
        const shown = await appOf(owner, app, at);
        const isOther = shown.latest !== before.latest || shown.from !== before.from;
        return isOther && shown.latest === shown.manifestHash
          ? { done: [`${name} runs ${manifestText(shown.manifestHash)}`] }
          : { instead: `${manifestText(shown.latest)} as the latest manifest of ${name}` };
      },
    });
  },
};

const withdraw: Command = {
  name: 'app withdraw',
  summary: 'leaves the app without a manifest, at once',
  positionals: ['NAME'],
  options: ownerOptions,
  async run(args) {
    const [name] = args.positionals as [string];
    const app = to0x(typed(() => appId(name)));
    const owner = await openOwner(args);
    await act(args, owner, {
      data: encodeWithdraw({ app }),
      effect: [`no node runs ${name} any more, at once`],
      async proof(at) {
        const { latest, manifestHash } = await appOf(owner, app, at);
        return latest === ZERO_WORD && manifestHash === ZERO_WORD
          ? { done: [`${name} has no manifest`] }
          : { instead: `manifest ${manifestHash} of ${name}` };
      },
    });
  },
};

const manifestText = (hash: string): string => (hash === ZERO_WORD ? 'no manifest' : hash);

async function appOf({ call }: NetworkConnection, app: string, at: Head): Promise<AppView> {
  return decodeAppOf(await call(encodeAppOf({ app }), at));
}

export const appCommands: readonly Command[] = [
  pack,
  ...secretCommands,
  diff,
  rollout,
  rollback,
  withdraw,
  appList,
  status,
  ps,
  logs,
];
