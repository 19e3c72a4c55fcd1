/** `network list` and `app list`: everything that the owner allowed or set, what is still to come, and when. */
import type { Head } from '../../lib/chain/chain-client.ts';
import { printError, printJson } from '../../lib/daemon/terminal.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { ZERO_WORD } from '../../lib/protocol/hex.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import {
  type AppView,
  decodePlatformsOpenFrom,
  encodePlatformsOpenFrom,
  type NetworkEvent,
} from '../../lib/protocol/network-contract.ts';
import { readHistory } from '../audit/history.ts';
import { type Command, narration, narrationOptions, type Option, UsageError } from '../command.ts';
import { showDuration } from '../duration.ts';
import { instant } from '../instant.ts';
import { chainOptions, connectNetwork, contractOption, type NetworkConnection } from '../owner/connection.ts';
import { pendingDelay } from './network-owner.ts';
import { allowedFrom, type Kind, kinds, NEVER_AGAIN } from './network-policy.ts';
import { tcbStatus } from './network-tcb.ts';

/** One thing that is or was allowed. */
interface Listed {
  readonly kind: Kind;
  readonly value: string;
  readonly state: 'allowed' | 'pending' | 'revoked';
  /** Unix seconds since or from when; null when it was revoked. */
  readonly from: number | null;
}

export interface ListedApp {
  readonly app: string;
  /** What runs; null when nothing does yet. */
  readonly manifest: string | null;
  readonly next: { readonly manifest: string; readonly from: number } | null;
}

const listOptions = {
  ...chainOptions,
  contract: contractOption,
  ...narrationOptions,
} satisfies Record<string, Option>;

export const list: Command = {
  name: 'network list',
  summary:
    'lists what may join: measurements, configs, platforms; and what runs, with everything pending and its time',
  options: {
    ...listOptions,
    'from-block': {
      value: 'NUMBER',
      help: 'the block of the deployment, or one before it: the events are read from there on',
      default: '0',
    },
    pending: { help: 'only what is still to come' },
  },
  async run(args) {
    const from = args.text('from-block');
    if (!/^[0-9]{1,15}$/.test(from)) throw new UsageError(`--from-block takes a whole number, not ${from}`);
    const connection = await connectNetwork(args);
    const { chain, contract, urls, reader, call } = connection;
    const head = await chain.head();
    const { entries } = await readHistory({
      endpoints: urls,
      contract,
      from: Number(from),
      head,
      onProgress: (block) => {
        if (block < head.number) printError(`events read up to block ${block} of ${head.number}`);
      },
    });
    const onlyPending = args.flag('pending');
    const shown = (state: Listed['state']) => !onlyPending || state === 'pending';
    const values = (
      await listedIn(
        entries.map(({ event }) => event),
        connection,
        head,
      )
    ).filter(({ state }) => shown(state));
    const apps = (await reader.apps(head)).map(listedApp).filter(({ next }) => !onlyPending || next !== null);
    const open = decodePlatformsOpenFrom(await call(encodePlatformsOpenFrom(), head));
    const opensLater = open > BigInt(head.timestamp);
    const delay = await pendingDelay(connection, head);
    const say = narration(args);
    say(
      ...values.map(({ kind, value, state, from: since }) => {
        const when =
          since === null
            ? 'revoked'
            : `${state === 'pending' ? 'PENDING: from' : 'since'} ${instant(BigInt(since))}`;
        return `${kind.padEnd(12)} ${value}  ${when}`;
      }),
      ...(opensLater ? [`platforms    any that is not revoked  PENDING: from ${instant(open)}`] : []),
      ...(delay === undefined
        ? []
        : [`delay        ${showDuration(delay.delay)}  PENDING: from ${instant(delay.from)}`]),
      ...(onlyPending
        ? (await tcbStatus(connection, head)).filter((row) => / from \d{4}-/.test(row))
        : await tcbStatus(connection, head)),
      ...apps.map(appRow),
      `as of block ${head.number}, by ${connection.sources}; events by all of them`,
    );
    if (args.flag('json')) {
      printJson(
        {
          contract,
          block: head.number,
          listed: values,
          apps,
          platformsOpenFrom: open === 0n ? null : Number(open),
          nextDelay: delay === undefined ? null : { delay: delay.delay, from: Number(delay.from) },
        },
        2,
      );
    }
  },
};

/** Each value that an event names, with what the contract's state says of it now. */
async function listedIn(
  events: readonly NetworkEvent[],
  network: NetworkConnection,
  head: Head,
): Promise<readonly Listed[]> {
  const found: Listed[] = [];
  for (const kind of kinds) {
    const about = events.filter(
      ({ name }) => name.toLowerCase() === `${kind}allowed` || name.toLowerCase() === `${kind}revoked`,
    );
    const values = new Set(about.map((event) => String((event as unknown as Record<Kind, string>)[kind])));
    for (const value of values) {
      const from = await allowedFrom(kind, value, network, head);
      const isOut = from === 0n || from === NEVER_AGAIN;
      const state = isOut ? 'revoked' : from > BigInt(head.timestamp) ? 'pending' : 'allowed';
      found.push({ kind, value, state, from: isOut ? null : Number(from) });
    }
  }
  return found;
}

export const appList: Command = {
  name: 'app list',
  summary: "lists the network's apps: what runs, what is to come, and when",
  options: listOptions,
  async run(args) {
    const { chain, reader, contract, sources } = await connectNetwork(args);
    const head = await chain.head();
    const apps = (await reader.apps(head)).map(listedApp);
    narration(args)(
      ...(apps.length === 0 ? ['no app has a manifest'] : apps.map(appRow)),
      `as of block ${head.number}, by ${sources}`,
    );
    if (args.flag('json')) printJson({ contract, block: head.number, apps }, 2);
  },
};

export function listedApp({ app, manifestHash, latest, from }: AppView): ListedApp {
  return {
    app: appName(fromHex(app)),
    manifest: manifestHash === ZERO_WORD ? null : manifestHash,
    next: latest === manifestHash ? null : { manifest: latest, from: Number(from) },
  };
}

export function appRow({ app, manifest, next }: ListedApp): string {
  const pending = next === null ? '' : `, ${next.manifest} PENDING: from ${instant(BigInt(next.from))}`;
  return `app ${app.padEnd(12)} ${manifest ?? 'none'}${pending}`;
}
