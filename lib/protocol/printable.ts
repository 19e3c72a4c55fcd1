/**
 * What a terminal may be given. A name, an error text or a console's last line that somebody else wrote can hold bytes that
 * move the cursor, rewrite lines above, set the clipboard or turn the reading direction round: a person then reads, and
 * signs, something else than what is there.
 */

/**
 * C0, DEL and C1 controls, format characters (bidirectional marks and embeddings, zero-width ones, tags), line and paragraph
 * separators, whatever else Unicode says to draw as nothing, and halves of surrogate pairs. Also all that looks like a space and is
 * none (U+2800 is a Braille pattern without dots): a URL may hold no space, and with these it could fill the rest of a terminal's line
 * and go on as a line that looks like one of ours.
 */
const UNPRINTABLE =
  /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000\p{Default_Ignorable_Code_Point}]/gu;

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * The text on one line, each character in it that is not one to be seen written as JSON writes it: `\n`, `\u001b`; so that JSON
 * is still the same JSON. A backslash stays what it is. What this does not help against is a letter that looks like another one.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => SHORT[character] ?? utf16Escapes(character));
}

function utf16Escapes(character: string): string {
  return Array.from(
    { length: character.length },
    (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
  ).join('');
}
