/** Numbers and times as people read them. */

/** Seconds that the chain's clock is ahead of this browser's; set with each new block. */
let ahead = 0;

/** @param {number | null} time of the newest block, Unix seconds */
export function setChainTime(time) {
  if (time !== null) ahead = time - Date.now() / 1000;
}

/** Unix seconds by the chain's clock. */
export function chainNow() {
  return Date.now() / 1000 + ahead;
}

/** @param {string} wei decimal @param {number} digits after the point, rounded down */
export function ether(wei, digits = 6) {
  const padded = wei.padStart(19, '0');
  const fraction = padded.slice(-18, -18 + digits || undefined).replace(/0+$/, '');
  return `${padded.slice(0, -18)}${fraction === '' ? '' : `.${fraction}`} ether`;
}

/** @param {number} value */
export function count(value) {
  return value.toLocaleString('en');
}

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const units = /** @type {const} */ ([
    ['d', 86_400],
    ['h', 3_600],
    ['min', 60],
    ['s', 1],
  ]);
  const at = units.findIndex(([, size]) => whole >= size);
  if (at === -1) return '0 s';
  const [name, size] = units[at];
  const next = units[at + 1];
  const first = Math.floor(whole / size);
  const rest = next === undefined ? 0 : Math.floor((whole - first * size) / next[1]);
  return rest === 0 ? `${first} ${name}` : `${first} ${name} ${rest} ${next[0]}`;
}

/** @param {number} seconds Unix */
export function instant(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? 'never' : `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

/** @param {number} milliseconds Unix */
export function clock(milliseconds) {
  return new Date(milliseconds).toISOString().slice(11, 19);
}
