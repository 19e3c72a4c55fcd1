/**
 * The one way in which this page makes elements. Every value goes in as text or as the value of a harmless attribute, so that nothing
 * which a peer, an app or an endpoint wrote can become markup. The page's policy (trusted types) forbids all other ways.
 */

/** Attributes that may be set, none of which runs anything or leads anywhere. */
const HARMLESS = new Set(['class', 'title', 'scope', 'role', 'tabindex', 'colspan']);

/**
 * @param {string} name of the element
 * @param {Record<string, string | number | undefined>} attributes `data-…`, `aria-…` and the harmless ones
 * @param {...(Node | string | number | null | undefined)} children
 * @returns {HTMLElement}
 */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    if (!HARMLESS.has(key) && !/^(data|aria)-[a-z-]+$/.test(key)) throw new Error(`no attribute ${key} here`);
    element.setAttribute(key, String(value));
  }
  element.append(
    ...children
      .filter((child) => child != null)
      .map((child) => (child instanceof Node ? child : String(child))),
  );
  return element;
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`no #${id} in the page`);
  return found;
}

/** The part of a section or card that a view fills. @param {string} id */
export function bodyOf(id) {
  return /** @type {HTMLElement} */ (byId(id).querySelector('.body'));
}

/** A hash or an address, whole: the style cuts it for the eye. @param {string | null} value */
export function hash(value) {
  return value === null
    ? el('span', { class: 'quiet' }, 'none')
    : el('code', { class: 'hash', title: value }, value);
}

/** @param {string} text @param {'good' | 'warn' | 'bad' | 'none'} tone */
export function tag(text, tone = 'none') {
  return el('span', { class: 'tag', 'data-tone': tone }, text);
}

/**
 * Terms and what is said of each.
 * @param {readonly (readonly [string, Node | string | number | null])[]} rows
 * @param {string} [kind] `two`: in two columns where there is room
 */
export function facts(rows, kind) {
  const list = el('dl', { class: kind });
  for (const [term, value] of rows) if (value !== null) list.append(el('dt', {}, term), el('dd', {}, value));
  return list;
}

/** @param {string} text */
export function empty(text) {
  return el('p', { class: 'empty' }, text);
}
