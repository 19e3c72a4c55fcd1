/** The page: keeps the state as the relay sends it, and draws what changed. */
import { alerts, chainCard, gasCard, nodeCard, siteCard } from './cards.js';
import { byId, el } from './dom.js';
import { setChainTime } from './format.js';
import * as lists from './lists.js';
import { addLines, forgetLines } from './log.js';
import { follow } from './stream.js';

/** @typedef {import('../state.ts').NetworkState} NetworkState */

/** Which parts each view is drawn from. @type {readonly (readonly [(network: NetworkState) => void, readonly (keyof NetworkState)[]])[]} */
const VIEWS = [
  [alerts, ['pulse', 'warnings', 'gas', 'history', 'own']],
  [nodeCard, ['own']],
  [chainCard, ['pulse', 'network', 'history']],
  [gasCard, ['gas']],
  [siteCard, ['certificate']],
  [lists.onboardings, ['onboardings']],
  [lists.nodes, ['nodes']],
  [lists.apps, ['apps']],
  [lists.rollouts, ['rollouts']],
  [lists.pending, ['pending']],
  [lists.allowed, ['allowed']],
  [lists.peers, ['peers']],
  [lists.gas, ['gas']],
];

/** @type {NetworkState[]} */
let networks = [];
let startedAt = 0;
const pick = /** @type {HTMLSelectElement} */ (byId('pick'));

/** @param {{ contract: string, chainId: number }} network */
const nameOf = ({ contract, chainId }) => `${contract} on chain ${chainId}`;

function shown() {
  return networks[Math.max(0, pick.selectedIndex)];
}

/** @param {(part: keyof NetworkState) => boolean} changed */
function draw(changed) {
  const network = shown();
  if (network === undefined) return;
  setChainTime(network.pulse?.time ?? null);
  for (const [view, parts] of VIEWS) if (parts.some(changed)) view(network);
}

function drawAll() {
  const network = shown();
  if (network !== undefined) byId('title').textContent = nameOf(network);
  draw(() => true);
}

/** What a person who does not see the page should hear. @param {NetworkState} before @param {NetworkState} now */
function announce(before, now) {
  const said = [];
  const known = new Map(before.onboardings?.list.map(({ request, state }) => [request, state]));
  for (const { request, node, state } of now.onboardings?.list ?? [])
    if (before.onboardings !== null && known.get(request) !== state)
      said.push(`request of ${node}: ${state}`);
  const last = before.rollouts?.list.length ?? 0;
  const [newest] = now.rollouts?.list ?? [];
  if (before.rollouts !== null && newest !== undefined && (now.rollouts?.list.length ?? 0) > last)
    said.push(`${newest.app}: ${newest.what} ${newest.code ?? ''}`);
  if (said.length > 0) byId('announcer').textContent = said.slice(0, 5).join('; ');
}

follow({
  state(state) {
    if (state.startedAt !== startedAt) forgetLines();
    startedAt = state.startedAt;
    networks = [...state.networks];
    const chosen = pick.selectedIndex;
    pick.replaceChildren(...networks.map((network) => el('option', {}, nameOf(network))));
    pick.selectedIndex = Math.max(0, Math.min(chosen, networks.length - 1));
    byId('picker').hidden = networks.length < 2;
    drawAll();
    addLines(state.log);
  },
  patch(patch) {
    const at = networks.findIndex(
      ({ contract, chainId }) => contract === patch.contract && chainId === patch.chainId,
    );
    const before = networks[at];
    if (before === undefined) return;
    const now = { ...before, ...patch };
    networks[at] = now;
    if (now !== shown()) return;
    announce(before, now);
    draw((part) => Object.hasOwn(patch, part));
  },
  log: addLines,
  live(state, text) {
    const place = byId('live');
    place.dataset.state = state;
    place.textContent = text;
  },
});
pick.addEventListener('change', drawAll);
