/** `network owner …` and `network delay`: who decides, and how long what loosens the rules has to wait. */
import type { Head } from '../../lib/chain/chain-client.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { sameAddress } from '../../lib/protocol/hex.ts';
import {
  decodeNextDelay,
  decodeOwner,
  decodePendingOwner,
  encodeAcceptOwnership,
  encodeNextDelay,
  encodeOwner,
  encodePendingOwner,
  encodeSetDelay,
  encodeTransferOwnership,
} from '../../lib/protocol/network-contract.ts';
import type { Command } from '../command.ts';
import { parseDuration, showDuration } from '../duration.ts';
import { instant } from '../instant.ts';
import { act, openOwner, ownerOptions } from '../owner/act.ts';
import { type NetworkConnection, requireAddress } from '../owner/connection.ts';

/** The contract refuses more. */
const LONGEST_DELAY = 31_536_000;

const transfer: Command = {
  name: 'network owner transfer',
  summary: 'names the next owner, who then has to accept; until then nothing changes',
  positionals: ['ADDRESS'],
  options: ownerOptions,
  async run(args) {
    const next = requireAddress('ADDRESS', args.positionals[0]!);
    const owner = await openOwner(args);
    if (sameAddress(next, owner.account)) {
      throw new DstackError('OWNER_UNCHANGED', `${next} is the owner already`);
    }
    await act(args, owner, {
      data: encodeTransferOwnership({ newOwner: next }),
      effect: [
        `${next} may take the network over, by network owner accept; until then ${owner.account} owns it and may name another`,
      ],
      async proof(at) {
        const pending = decodePendingOwner(await owner.call(encodePendingOwner(), at));
        return sameAddress(pending, next)
          ? { done: [`${next} may accept; the owner is still ${owner.account}`] }
          : { instead: `${pending} as the next owner` };
      },
    });
  },
};

const accept: Command = {
  name: 'network owner accept',
  summary: 'takes a network over: sent by the account that was named',
  options: ownerOptions,
  async run(args) {
    const owner = await openOwner(args, 'next owner');
    await act(args, owner, {
      data: encodeAcceptOwnership(),
      effect: [`${owner.account} owns the network, at once, and the owner of before no longer does`],
      async proof(at) {
        const now = decodeOwner(await owner.call(encodeOwner(), at));
        return sameAddress(now, owner.account)
          ? { done: [`${now} is the owner`] }
          : { instead: `${now} as the owner` };
      },
    });
  },
};

const delay: Command = {
  name: 'network delay',
  summary:
    'sets how long what loosens the rules has to wait: longer at once, shorter after the present delay',
  positionals: ['DURATION'],
  options: ownerOptions,
  async run(args) {
    const wanted = parseDuration('the delay', args.positionals[0]!, LONGEST_DELAY);
    const owner = await openOwner(args);
    const head = await owner.chain.head();
    const { delay: now, epoch } = await owner.reader.network(head);
    const pending = await pendingDelay(owner, head);
    if ((pending?.delay ?? now) === wanted) {
      const already =
        pending === undefined
          ? 'already'
          : `from ${instant(pending.from)}; setting it again would restart its delay`;
      throw new DstackError('DELAY_UNCHANGED', `the delay is ${showDuration(wanted)} ${already}`);
    }
    const when = epoch === 0 || wanted >= now ? 'at once' : `after the present delay of ${showDuration(now)}`;
    await act(args, owner, {
      data: encodeSetDelay({ delay: wanted }),
      effect: [`what loosens the rules takes ${showDuration(wanted)}, ${when}; it was ${showDuration(now)}`],
      async proof(at) {
        const shown = await owner.reader.network(at);
        const next = await pendingDelay(owner, at);
        if (next?.delay === wanted)
          return { done: [`the delay is ${showDuration(wanted)} from ${instant(next.from)}`] };
        return next === undefined && shown.delay === wanted
          ? { done: [`the delay is ${showDuration(wanted)}`] }
          : { instead: `a delay of ${showDuration(shown.delay)}` };
      },
    });
  },
};

/** One that is set, and not in force yet. */
export async function pendingDelay(
  { call }: Pick<NetworkConnection, 'call'>,
  at: Head,
): Promise<{ readonly delay: number; readonly from: bigint } | undefined> {
  const next = decodeNextDelay(await call(encodeNextDelay(), at));
  return next.from > BigInt(at.timestamp) ? next : undefined;
}

export const networkOwnerCommands: readonly Command[] = [transfer, accept, delay];
