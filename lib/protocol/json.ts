/**
 * JSON in which no object has a key twice. RFC 8259 leaves open which of the two counts, and programs differ: one tool could
 * show its user the first while another acts on the second.
 */

/**
 * As JSON.parse.
 * @throws SyntaxError for text that is not JSON, and for an object that has a key twice
 */
export function parseUniqueJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  requireUniqueKeys(text);
  return value;
}

/** Of a text that is JSON. @throws SyntaxError for an object that has a key twice */
export function requireUniqueKeys(text: string): void {
  const twice = repeatedKey(text);
  if (twice !== undefined)
    throw new SyntaxError(`an object has the key ${JSON.stringify(twice.slice(0, 80))} twice`);
}

/**
 * Whether a text has more than so many values, those of members among them; a few more if some are empty objects or arrays. The text need
 * not be JSON, which it costs a hundred times as much to find out.
 */
export function hasMoreValues(text: string, most: number): boolean {
  const next = /["[{,]/g;
  let values = 1;
  for (let found = next.exec(text); found !== null; found = next.exec(text)) {
    if (found[0] === '"') next.lastIndex = endOfString(text, found.index);
    else values += 1;
    if (values > most) return true;
  }
  return false;
}

/** In a text that is JSON a string is a key exactly when a colon follows it. In linear time, and without a stack: a string may be megabytes. */
function repeatedKey(text: string): string | undefined {
  const open: Set<string>[] = [];
  const next = /["{}]/g;
  for (let found = next.exec(text); found !== null; found = next.exec(text)) {
    const { 0: token, index } = found;
    if (token === '{') open.push(new Set());
    else if (token === '}') open.pop();
    else {
      const end = endOfString(text, index);
      next.lastIndex = end;
      if (!isBeforeColon(text, end)) continue;
      // Escapes may write one key in two ways.
      const key = JSON.parse(text.slice(index, end)) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

/** Behind the closing quote of the string that begins at `start`; the end of the text if there is none. */
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); ; at = text.indexOf('"', at + 1)) {
    if (at === -1) return text.length;
    let escapes = 0;
    while (text[at - 1 - escapes] === '\\') escapes++;
    if (escapes % 2 === 0) return at + 1;
  }
}

function isBeforeColon(text: string, from: number): boolean {
  let at = from;
  while (' \t\r\n'.includes(text[at] ?? ':')) at++;
  return text[at] === ':';
}
