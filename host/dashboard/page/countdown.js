/** Times that count down, or up, without being drawn again: one timer for all of them. */
import { el } from './dom.js';
import { chainNow, duration, instant } from './format.js';

/**
 * A time with how far it is from now.
 * @param {number} seconds Unix
 * @param {'chain' | 'own'} clock by which the time will come: what a contract decides is due by the chain's
 */
export function countdown(seconds, clock = 'chain') {
  const element = el('time', { 'data-at': seconds, 'data-clock': clock, title: instant(seconds) });
  tick(element);
  return element;
}

/** @param {HTMLElement} element */
function tick(element) {
  const now = element.dataset.clock === 'own' ? Date.now() / 1000 : chainNow();
  const left = Number(element.dataset.at) - now;
  const text = left > 0 ? `in ${duration(left)}` : `${duration(-left)} ago`;
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => {
  for (const element of document.querySelectorAll('time[data-at]'))
    tick(/** @type {HTMLElement} */ (element));
}, 1000);
