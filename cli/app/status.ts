/** What chain, node and relay say of a network's apps, side by side. */
import type { AppStatus, AppsStatus } from '../../lib/protocol/app-status.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { bareHex, ZERO_WORD } from '../../lib/protocol/hex.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import type { AppView } from '../../lib/protocol/network-contract.ts';
import { instant } from '../instant.ts';

/** `undefined` for one that does not answer, or cannot say. */
export interface Said {
  readonly chain: readonly AppView[];
  readonly node: AppsStatus | undefined;
  readonly relay: AppsStatus | undefined;
}

/** @param only one app's name */
export function statusLines({ chain, node, relay }: Said, only?: string): string[] {
  const views = new Map(chain.flatMap((view) => named(view)));
  const said = (of: AppsStatus | undefined) => new Map((of?.apps ?? []).map((one) => [one.app, one]));
  const [byNode, byRelay] = [said(node), said(relay)];
  const names = [...new Set([...views.keys(), ...byNode.keys(), ...byRelay.keys()])];
  const shown = names.filter((name) => only === undefined || name === only);
  const blocks = shown.map((name) => [
    name,
    ...appLines(
      views.get(name),
      node && (byNode.get(name) ?? 'none'),
      relay && (byRelay.get(name) ?? 'none'),
    ),
  ]);
  const known = node ?? relay;
  const more = known === undefined || known.more === 0 ? [] : [`${known.more} more apps are not shown`];
  return [...problemLines(known), ...blocks.flat(), ...more, ...rolloutLines(known, only)];
}

/**
 * The same for programs: what each says, unjudged; null for one that does not answer.
 * @param only one app's name
 */
export function statusObject({ chain, node, relay }: Said, only?: string): object {
  const shown = (app: string) => only === undefined || app === only;
  const of = (said: AppsStatus | undefined) =>
    said === undefined
      ? null
      : {
          ...said,
          apps: said.apps.filter(({ app }) => shown(app)),
          rollouts: said.rollouts.filter(({ app }) => shown(app)),
        };
  return {
    chain: chain.flatMap((view) =>
      named(view)
        .filter(([app]) => shown(app))
        .map(([app, { manifestHash, latest, from }]) => ({
          ...{ app, manifest: orNull(manifestHash), latest: orNull(latest), from: Number(from) },
        })),
    ),
    node: of(node),
    relay: of(relay),
  };
}

const orNull = (hash: string): string | null => (hash === ZERO_WORD ? null : hash);

type Word = AppStatus | 'none' | undefined;

function appLines(view: AppView | undefined, node: Word, relay: Word): string[] {
  const [known] = [node, relay].filter((one) => typeof one === 'object');
  return [
    `  chain: ${chainText(view)}`,
    `  node:  ${wordText(node)}`,
    `  relay: ${wordText(relay)}`,
    ...differences(view, node, relay).map((line) => `  DIFFERS: ${line}`),
    ...(known === undefined ? [] : troubleLines(known)),
  ];
}

function chainText(view: AppView | undefined): string {
  if (view === undefined) return 'knows no such app';
  const { manifestHash, latest, from } = view;
  const isPending = latest !== manifestHash;
  const now =
    manifestHash === ZERO_WORD
      ? 'no manifest in force'
      : `${bareHex(manifestHash)} in force${isPending ? '' : ` since ${instant(from)}`}`;
  return isPending && latest !== ZERO_WORD ? `${now}; ${bareHex(latest)} from ${instant(from)} on` : now;
}

function wordText(word: Word): string {
  if (word === undefined) return 'says nothing';
  if (word === 'none') return 'has no such app';
  if (word.state === 'ended' && word.serving !== undefined) return `ended: ${word.serving} is being stopped`;
  const serving = word.serving === undefined ? 'nothing serves' : `${word.serving} serves`;
  const end =
    word.endsAt === undefined
      ? ''
      : `, which ends at ${instant(BigInt(word.endsAt))} if no other takes its place`;
  return `${word.state}: ${serving}${end}`;
}

/** What does not fit, in words. */
function differences(view: AppView | undefined, node: Word, relay: Word): string[] {
  const found: string[] = [];
  const inForce =
    view === undefined || view.manifestHash === ZERO_WORD ? undefined : bareHex(view.manifestHash);
  if (typeof node === 'object') {
    if (node.inForce !== inForce)
      found.push(
        `the chain has ${inForce ?? 'no manifest'} in force, the node has read ${node.inForce ?? 'none'}`,
      );
    if (node.serving !== inForce)
      found.push(
        `the chain has ${inForce ?? 'no manifest'} in force, the node serves ${node.serving ?? 'none'}`,
      );
  } else if (node === 'none' && inForce !== undefined) found.push('the node does not know the app');
  if (typeof node === 'object' && typeof relay === 'object') {
    if (node.state !== relay.state || node.serving !== relay.serving)
      found.push(`the relay last saw the node ${relay.state} with ${relay.serving ?? 'none'}`);
  } else if (typeof node !== typeof relay && node !== undefined && relay !== undefined)
    found.push('only one of node and relay has the app');
  return found;
}

function troubleLines({ app, trouble }: AppStatus): string[] {
  if (trouble === undefined) return [];
  const lines = Object.values(trouble.logs).flat().length;
  return [
    `  ${trouble.code}: ${trouble.message}`,
    `  of ${trouble.manifest}; attempts: ${trouble.attempts}, the next in ${trouble.nextTry} s`,
    ...(lines === 0 ? [] : [`  it wrote: ${lines} lines, npx dstack app logs ${app}`]),
  ];
}

function problemLines(status: AppsStatus | undefined): string[] {
  if (status?.problem === undefined) return [];
  return [`the node does not follow the contract: ${status.problem.code}: ${status.problem.message}`];
}

function rolloutLines(status: AppsStatus | undefined, only: string | undefined): string[] {
  const shown = (status?.rollouts ?? []).filter(({ app }) => only === undefined || app === only);
  if (shown.length === 0) return [];
  return [
    'rollouts',
    ...shown.map(({ at, app, manifest, outcome, code }) => {
      const why = code === undefined ? '' : ` ${code}`;
      return `  ${instant(BigInt(at))} ${app} ${manifest} ${outcome}${why}`;
    }),
  ];
}

function named(view: AppView): [string, AppView][] {
  try {
    return [[appName(fromHex(view.app, 32)), view]];
  } catch {
    // Nodes leave out such a name too.
    return [];
  }
}
