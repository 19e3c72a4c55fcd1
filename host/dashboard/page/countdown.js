/** Times that count down, or up, without being drawn again: one timer for all of them. */
import { el } from './dom.js';
import { chainNow, duration, instant } from './format.js';

/** A time with how far it is from now, by the chain's clock. @param {number} seconds Unix */
export function countdown(seconds) {
  const element = el('time', { 'data-at': seconds, title: instant(seconds) });
  tick(element);
  return element;
}

/** @param {HTMLElement} element */
function tick(element) {
  const left = Number(element.dataset.at) - chainNow();
  const text = left > 0 ? `in ${duration(left)}` : `${duration(-left)} ago`;
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => {
  for (const element of document.querySelectorAll('time[data-at]'))
    tick(/** @type {HTMLElement} */ (element));
}, 1000);
