/** Tables that are drawn again when their rows change. Rows that were not there before are marked. */
import { el, empty } from './dom.js';

/**
 * @typedef {{ title: string, cell: (row: any) => Node | string | number | null, kind?: string, seldom?: boolean }} Column `kind`: a class: number, note,
 *   or wide, which a narrow screen leaves out; `seldom`: the column is there only when a row has something in it
 */

/** Keys of the rows that each place showed last. @type {WeakMap<Element, Set<string>>} */
const shown = new WeakMap();

/**
 * @param {HTMLElement} place whose content it becomes
 * @param {{ label: string, columns: readonly Column[], rows: { list: readonly any[], more: number } | null, key: (row: any) => string, none: string, detail?: (row: any) => Node | null }} table
 *   `detail`: what follows a row over the table's whole width, if anything
 */
export function table(place, { label, columns, rows, key, none, detail }) {
  if (rows === null) {
    place.replaceChildren(empty('Not known yet.'));
    return;
  }
  // How many there are is seen before they are.
  const heading = place.parentElement?.querySelector(':scope > h2');
  if (heading instanceof HTMLElement)
    heading.dataset.count = (rows.list.length + rows.more).toLocaleString('en');
  const before = shown.get(place);
  const keys = new Set(rows.list.map(key));
  shown.set(place, keys);
  if (rows.list.length === 0) {
    place.replaceChildren(empty(none));
    return;
  }
  const used = columns.filter(
    ({ seldom, cell }) =>
      !seldom || rows.list.some((row) => !['', null].includes(/** @type {any} */ (cell(row)))),
  );
  const head = el('tr', {}, ...used.map(({ title, kind }) => el('th', { scope: 'col', class: kind }, title)));
  const body = el('tbody');
  for (const row of rows.list) {
    const isNew = before !== undefined && !before.has(key(row));
    body.append(
      el(
        'tr',
        { class: isNew ? 'fresh' : undefined },
        ...used.map(({ cell, kind }) => el('td', { class: kind }, cell(row))),
      ),
    );
    const more = detail?.(row) ?? null;
    if (more !== null) body.append(el('tr', {}, el('td', { colspan: used.length }, more)));
  }
  const old = place.querySelector('.scroll');
  const [top, left, hadFocus] = [old?.scrollTop ?? 0, old?.scrollLeft ?? 0, old === document.activeElement];
  // A place that scrolls must be reachable by keyboard.
  const scroll = el(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label },
    el('table', {}, el('thead', {}, head), body),
  );
  const more = rows.more > 0 ? [empty(`and ${rows.more} more`)] : [];
  place.replaceChildren(scroll, ...more);
  [scroll.scrollTop, scroll.scrollLeft] = [top, left];
  if (hadFocus) scroll.focus({ preventScroll: true });
}
