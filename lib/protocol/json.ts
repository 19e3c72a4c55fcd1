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
  const twice = repeatedKey(text);
  if (twice !== undefined)
    throw new SyntaxError(`an object has the key ${JSON.stringify(twice.slice(0, 80))} twice`);
  return value;
}

/** Of a text that is JSON: in such a text a string is a key exactly when a colon follows it. */
function repeatedKey(text: string): string | undefined {
  const open: Set<string>[] = [];
  for (const [token, string] of text.matchAll(/("(?:[^"\\]|\\.)*")(?=[ \t\r\n]*:)|"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '}') open.pop();
    else if (string !== undefined) {
      // Escapes may write one key in two ways.
      const key = JSON.parse(string) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
