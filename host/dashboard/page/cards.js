/** What an operator sees first: the node, the chain, the gas key, the certificate; and what is wrong. */
import { countdown } from './countdown.js';
import { bodyOf, byId, el, empty, facts, hash, tag } from './dom.js';
import { count, duration, ether } from './format.js';

/** @typedef {import('../state.ts').NetworkState} NetworkState */

/** @type {Record<string, 'good' | 'warn' | 'bad'>} */
const TONES = { joined: 'good', failed: 'bad', unreachable: 'bad' };
/** A certificate that ends sooner should have been renewed by now. Seconds. */
const SOON = 14 * 86_400;

/** @param {NetworkState} network */
export function alerts({ pulse, warnings, gas, history, own }) {
  const texts = [
    ...(pulse?.unhealthy ? [pulse.unhealthy] : []),
    ...(own?.state === 'failed' ? [`the node failed: ${own.code ?? ''} ${own.message ?? ''}`] : []),
    ...(warnings ?? []),
    ...(gas?.low && !(warnings ?? []).some((text) => text.includes('gas key'))
      ? ['the gas key runs low']
      : []),
    ...(history?.problem ? [`the chain's endpoint: ${history.problem}`] : []),
  ];
  const place = byId('alerts');
  if (place.dataset.said === JSON.stringify(texts)) return;
  place.dataset.said = JSON.stringify(texts);
  place.replaceChildren(...texts.map((text) => el('p', { class: 'alert' }, text)));
}

/** @param {NetworkState} network */
export function nodeCard({ own }) {
  const place = bodyOf('card-node');
  if (own === null) return place.replaceChildren(empty('Not known yet.'));
  const { state, flavour, epoch, config, code, message, waitingFor } = own;
  const why = [code, message].filter((part) => part !== null).join(': ');
  place.replaceChildren(
    el('p', { class: 'big' }, tag(state, TONES[state] ?? 'warn')),
    facts([
      ['flavour', flavour],
      ['epoch', epoch],
      ['config', config === null ? null : hash(config)],
      ['says', why === '' ? null : why],
      ['waits for', waitingFor === '' ? null : waitingFor],
    ]),
  );
}

/** @param {NetworkState} network */
export function chainCard({ pulse, network, history }) {
  const place = bodyOf('card-chain');
  const read =
    history?.from == null
      ? null
      : history.complete
        ? 'all, since it began'
        : `back to block ${count(history.from)}`;
  place.replaceChildren(
    el('p', { class: 'big' }, pulse?.head == null ? 'no block yet' : `block ${count(pulse.head)}`),
    facts(
      [
        ['its time', pulse?.time == null ? null : countdown(pulse.time, 'own')],
        ['acted on', pulse?.block == null ? null : `block ${count(pulse.block)}`],
        ['epoch', network?.epoch ?? null],
        ['delay', network === null ? null : duration(network.delay)],
        ['platforms', network === null ? null : network.platformsOpen ? 'open to any' : 'those listed'],
        ['network key', network === null ? null : hash(network.networkKey)],
        ['events read', read],
        ['still to read', history?.behind ? `${count(history.behind)} newer blocks` : null],
        [
          'left out',
          history?.cutAt == null
            ? null
            : `requests up to block ${count(history.cutAt)}: there are more than are kept`,
        ],
      ],
      'two',
    ),
  );
}

/** @param {NetworkState} network */
export function gasCard({ gas }) {
  const place = bodyOf('card-gas');
  if (gas === null) return place.replaceChildren(empty('Not known yet.'));
  const { address, wei, lowWei, low, spent } = gas;
  const paid = spent.reduce((sum, one) => sum + BigInt(one.wei), 0n);
  place.replaceChildren(
    el(
      'p',
      { class: 'big' },
      wei === null ? 'not read yet' : ether(wei),
      ' ',
      low ? tag('low', 'bad') : null,
    ),
    facts([
      ['account', hash(address)],
      ['warns below', ether(lowWei)],
      ['spent so far', ether(String(paid), 9)],
    ]),
  );
}

/** @param {NetworkState} network */
export function siteCard({ certificate }) {
  const place = bodyOf('card-site');
  if (certificate === null) return place.replaceChildren(empty('No certificate of the website is known.'));
  const { notAfter, names, serial } = certificate;
  const left = notAfter - Date.now() / 1000;
  const tone = left < 0 ? 'bad' : left < SOON ? 'warn' : 'good';
  place.replaceChildren(
    el('p', { class: 'big' }, tag(left < 0 ? 'expired' : left < SOON ? 'ends soon' : 'valid', tone)),
    facts([
      ['ends', countdown(notAfter, 'own')],
      ['names', names.join(', ')],
      ['serial', hash(serial)],
    ]),
  );
}
