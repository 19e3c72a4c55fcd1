/** The log's tail. All lines that came are kept up to a bound; of those that fit the filter the last ones are in the page. */
import { byId, el } from './dom.js';
import { clock, count } from './format.js';

/** @typedef {import('../state.ts').LogLine} LogLine */

const KEPT = 10_000;
const DRAWN = 500;
const LEVELS = ['debug', 'info', 'warn', 'error'];

/** @type {LogLine[]} */
let lines = [];
let paused = false;

const place = byId('log-lines');
// What scrolls must be reachable by keyboard.
place.tabIndex = 0;
const level = /** @type {HTMLSelectElement} */ (byId('log-level'));
const filter = /** @type {HTMLInputElement} */ (byId('log-filter'));
const pause = byId('log-pause');

/** @param {LogLine} line */
function fits(line) {
  if (LEVELS.indexOf(line.level) < Number(level.value)) return false;
  return filter.value === '' || line.text.toLowerCase().includes(filter.value.toLowerCase());
}

/** @param {LogLine} line */
function drawn({ at, level: name, text }) {
  return el('div', { 'data-level': name }, el('time', {}, clock(at)), ` ${name.padEnd(5)} ${text}`);
}

function drawAll() {
  place.replaceChildren(...lines.filter(fits).slice(-DRAWN).map(drawn));
  place.scrollTop = place.scrollHeight;
  tellCount();
}

function tellCount() {
  byId('log-count').textContent =
    `${count(place.childElementCount)} of ${count(lines.length)} lines${paused ? ', paused' : ''}`;
}

/** New lines, oldest first. @param {readonly LogLine[]} more */
export function addLines(more) {
  const last = lines.at(-1)?.n ?? 0;
  const fresh = more.filter(({ n }) => n > last);
  if (fresh.length === 0) return;
  lines = [...lines, ...fresh].slice(-KEPT);
  if (!paused) draw(fresh);
  tellCount();
}

/** Of a relay that was started anew. */
export function forgetLines() {
  lines = [];
  drawAll();
}

/** @param {readonly LogLine[]} fresh */
function draw(fresh) {
  const wasAtEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
  place.append(...fresh.filter(fits).slice(-DRAWN).map(drawn));
  while (place.childElementCount > DRAWN) place.firstElementChild?.remove();
  if (wasAtEnd) place.scrollTop = place.scrollHeight;
}

level.addEventListener('change', drawAll);
filter.addEventListener('input', drawAll);
byId('log-form').addEventListener('submit', (event) => event.preventDefault());
pause.addEventListener('click', () => {
  paused = !paused;
  pause.setAttribute('aria-pressed', String(paused));
  if (!paused) drawAll();
  tellCount();
});
