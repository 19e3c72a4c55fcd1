/** The tables of a network: who asks to join, who is in, what runs, what is allowed, who pays. */
import { countdown } from './countdown.js';
import { bodyOf, el, hash, tag } from './dom.js';
import { count, ether, instant } from './format.js';
import { table } from './table.js';

/** @typedef {import('../state.ts').NetworkState} NetworkState */
/** @typedef {import('../state.ts').AppRow} AppRow */

/** @param {boolean} own */
const ownTag = (own) => (own ? tag('this host', 'good') : null);

/** @param {NetworkState} network */
export function onboardings({ onboardings: rows }) {
  /** @type {Record<string, 'good' | 'warn' | 'bad'>} */
  const tones = { answered: 'good', asked: 'warn', expired: 'bad' };
  table(bodyOf('onboardings'), {
    label: 'Onboardings',
    rows,
    key: ({ request, state }) => `${request} ${state}`,
    none: 'Nobody has asked to join.',
    columns: [
      { title: 'State', cell: ({ state }) => tag(state, tones[state]) },
      { title: 'Node', cell: ({ node, own }) => el('span', {}, hash(node), ' ', ownTag(own)) },
      { title: 'Request', cell: ({ request }) => hash(request), kind: 'wide' },
      { title: 'Asked', cell: ({ askedBlock }) => count(askedBlock), kind: 'number' },
      {
        title: 'Answered',
        cell: ({ answeredBlock, state, until }) =>
          answeredBlock !== null
            ? count(answeredBlock)
            : state === 'asked'
              ? `until ${count(until)}`
              : 'never',
        kind: 'number',
      },
      { title: 'What this host does', cell: ({ note }) => note, kind: 'note', seldom: true },
    ],
  });
}

/** @param {NetworkState} network */
export function nodes({ nodes: rows }) {
  table(bodyOf('nodes'), {
    label: 'Nodes',
    rows,
    key: ({ request, block }) => `${request} ${block}`,
    none: 'No node has the secret yet.',
    columns: [
      {
        title: 'Standing',
        cell: ({ standing }) => tag(standing, standing === 'allowed' ? 'good' : 'bad'),
      },
      {
        title: 'Node',
        cell: ({ node, own, request }) =>
          el('span', {}, request === null ? 'the first' : hash(node), ' ', ownTag(own)),
      },
      { title: 'Version (measurement)', cell: ({ measurement }) => hash(measurement) },
      { title: 'Platform', cell: ({ platform }) => hash(platform), kind: 'wide' },
      { title: 'In since block', cell: ({ block }) => count(block), kind: 'number' },
    ],
  });
}

/** @param {AppRow['node']} node */
function serving(node) {
  if (node === null) return tag('not known', 'none');
  return tag(node.state, node.state === 'serving' ? 'good' : node.trouble === null ? 'warn' : 'bad');
}

/** @param {AppRow} row */
function trouble({ node }) {
  if (node === null || node.trouble === null) return null;
  const { code, message, attempts, logs, manifest } = node.trouble;
  return el(
    'div',
    { class: 'trouble' },
    el('p', {}, el('strong', {}, code), `: ${message}`),
    el('p', {}, 'manifest ', hash(manifest), `, ${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}`),
    logs.length === 0 ? null : el('pre', {}, logs.join('\n')),
  );
}

/** @param {NetworkState} network */
export function apps({ apps: rows }) {
  table(bodyOf('apps'), {
    label: 'Apps',
    rows,
    key: ({ app, node }) => `${app} ${node?.state} ${node?.trouble?.code}`,
    none: 'No app was rolled out.',
    columns: [
      { title: 'App', cell: ({ app }) => el('strong', {}, app) },
      { title: 'Here', cell: ({ node }) => serving(node) },
      { title: 'In force', cell: ({ manifest }) => hash(manifest) },
      { title: 'Serves', cell: ({ node }) => hash(node?.serving ?? null), kind: 'wide' },
      {
        title: 'To come',
        seldom: true,
        cell: ({ next }) =>
          next === null ? '' : el('span', {}, hash(next.manifest), ' ', countdown(next.from)),
      },
    ],
    detail: trouble,
  });
}

/** @param {NetworkState} network */
export function rollouts({ rollouts: rows }) {
  /** @type {Record<string, 'good' | 'warn' | 'bad'>} */
  const tones = { deployed: 'good', refused: 'bad', ended: 'bad', 'rolled back': 'warn' };
  table(bodyOf('rollouts'), {
    label: 'Rollouts',
    rows,
    key: ({ app, manifest, what, block, at }) => `${app} ${manifest} ${what} ${block} ${at}`,
    none: 'Nothing was rolled out.',
    columns: [
      { title: 'What', cell: ({ what }) => tag(what, tones[what] ?? 'none') },
      { title: 'App', cell: ({ app }) => el('strong', {}, app) },
      { title: 'Manifest', cell: ({ manifest }) => hash(manifest) },
      { title: 'By', cell: ({ by }) => (by === 'node' ? 'this node' : 'the owner'), kind: 'wide' },
      {
        title: 'When',
        cell: ({ at, block }) => (at === null ? `block ${count(block ?? 0)}` : countdown(at)),
      },
      { title: 'Why', cell: ({ code }) => code ?? '', kind: 'note', seldom: true },
    ],
  });
}

/** @param {NetworkState} network */
export function pending({ pending: rows }) {
  table(bodyOf('pending'), {
    label: 'Held back by the delay',
    rows,
    key: ({ what, value }) => `${what} ${value}`,
    none: 'Nothing is to come.',
    columns: [
      { title: 'What', cell: ({ what }) => what },
      { title: 'Value', cell: ({ value }) => (value.startsWith('0x') ? hash(value) : value) },
      { title: 'Takes effect', cell: ({ from }) => countdown(from) },
      { title: 'At', cell: ({ from }) => instant(from), kind: 'wide' },
    ],
  });
}

/** @param {NetworkState} network */
export function allowed({ allowed: rows }) {
  /** @type {Record<string, 'good' | 'warn' | 'bad'>} */
  const tones = { allowed: 'good', pending: 'warn', revoked: 'bad' };
  table(bodyOf('allowed'), {
    label: 'Allowed',
    rows,
    key: ({ kind, value, state }) => `${kind} ${value} ${state}`,
    none: 'Nothing was allowed.',
    columns: [
      { title: 'State', cell: ({ state }) => tag(state, tones[state]) },
      { title: 'What', cell: ({ kind }) => kind },
      { title: 'Value', cell: ({ value }) => hash(value) },
      { title: 'Since or from', cell: ({ from }) => (from === null ? '' : countdown(from)) },
      { title: 'Said in block', cell: ({ block }) => count(block), kind: 'number wide' },
    ],
  });
}

/** @param {NetworkState} network */
export function peers({ peers: rows }) {
  table(bodyOf('peers'), {
    label: 'Peers',
    rows,
    key: ({ peer, reachable }) => `${peer} ${reachable}`,
    none: 'This relay calls no peer.',
    columns: [
      {
        title: 'State',
        cell: ({ reachable }) => tag(reachable ? 'reachable' : 'away', reachable ? 'good' : 'bad'),
      },
      { title: 'Peer', cell: ({ peer }) => peer, kind: 'note' },
    ],
  });
}

/** @param {NetworkState} network */
export function gas({ gas: part }) {
  const place = bodyOf('gas');
  const [spent, open] = place.children.length === 2 ? place.children : [el('div'), el('div')];
  if (place.children.length !== 2) place.replaceChildren(spent, open);
  table(/** @type {HTMLElement} */ (spent), {
    label: 'Spent since the relay was started',
    rows: part === null ? null : { list: part.spent, more: 0 },
    key: ({ kind, transactions }) => `${kind} ${transactions}`,
    none: 'Nothing was paid for since the relay was started.',
    columns: [
      { title: 'Spent on', cell: ({ kind }) => kind },
      { title: 'Transactions', cell: ({ transactions }) => count(transactions), kind: 'number' },
      { title: 'Gas', cell: ({ gas: used }) => count(used), kind: 'number' },
      { title: 'Ether', cell: ({ wei }) => ether(wei, 9), kind: 'number' },
    ],
  });
  table(/** @type {HTMLElement} */ (open), {
    label: 'Transactions that are not final',
    rows: part?.transactions ?? null,
    key: ({ purpose, state }) => `${purpose} ${state}`,
    none: 'No transaction is on its way.',
    columns: [
      { title: 'On its way', cell: ({ purpose }) => purpose.split(':')[0] },
      { title: 'State', cell: ({ state }) => tag(state, 'warn') },
      { title: 'Transaction', cell: ({ hash: value }) => hash(value) },
      {
        title: 'Why it waits',
        cell: ({ code, message }) => [code, message].filter((part) => part !== null).join(': '),
        kind: 'note',
      },
    ],
  });
}
