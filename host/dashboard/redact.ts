/**
 * Takes secrets out of text that a browser will show. No line of the relay's log is meant to hold one; this is the second wall, for
 * errors of libraries that quote what they were given. It knows this host's own secrets by their text, and the usual forms of others'.
 */

const REMOVED = '[removed]';

/** Names of fields, as a pattern. */
const SECRET_FIELD = '(?:private[_-]?key|secret|password|passphrase|mnemonic|api[_-]?key|authorization)';

/**
 * Forms of secrets whose text is not known beforehand, and what is left of each. None has a longest length: the rest of a longer secret
 * would be shown. Each takes all that it looked at, so that the time is in proportion to the text.
 */
const FORMS: readonly (readonly [RegExp, string])[] = [
  // A URL's user and password (RFC 3986, section 3.2.1), and what a query often carries.
  [/\b([a-z][a-z0-9+.-]{1,20}:\/\/)[^\s/?#@"']+@/gi, `$1${REMOVED}@`],
  [/([?&](?:[\w-]{0,30}(?:key|token|secret|password|auth|sig)[\w-]{0,30})=)[^\s&"'#]+/gi, `$1${REMOVED}`],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${REMOVED}`],
  // To the end of the text where it was cut.
  [/-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|$)/g, REMOVED],
  // A field with such a name, in JSON (also JSON in JSON, whose quotes have backslashes): to the quote that ends it, which is written as
  // the one that began it. One in the value has more backslashes.
  [
    new RegExp(`(${SECRET_FIELD}\\\\*"\\s{0,3}:\\s{0,3})(\\\\*")[\\s\\S]*?(?:(?<!\\\\)\\2|$)`, 'gi'),
    `$1$2${REMOVED}$2`,
  ],
  // As name=value or name: value. A phrase has spaces: it ends where the next field begins, or the line.
  [
    new RegExp(
      `(${SECRET_FIELD}(?:\\\\*")?\\s{0,3}[:=]\\s{0,3})(?!\\\\*"?\\[removed\\])[^\\n]+?(?=\\s\\s|[\\n,;}]|$)`,
      'gi',
    ),
    `$1${REMOVED}`,
  ],
];

/**
 * @param secrets texts that must never be shown; those of fewer than eight characters are left alone, since they would stand in
 * half of all words
 */
export function redactor(secrets: readonly string[]): (text: string) => string {
  const known = [...new Set(secrets.flatMap(spellings))]
    .filter((secret) => secret.length >= 8)
    .sort((a, b) => b.length - a.length)
    .map((secret) => new RegExp(secret.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gi'));
  return (text) => {
    const without = known.reduce((left, secret) => left.replace(secret, REMOVED), text);
    return FORMS.reduce((left, [form, kept]) => left.replace(form, kept), without);
  };
}

/** A key is known with 0x and without, and as JSON and URLs write it. */
function spellings(secret: string): readonly string[] {
  const plain = secret.replace(/^0x/i, '');
  return [secret, plain, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)];
}

/**
 * What of a URL is a secret: providers put their keys into the path or the query, users their passwords before the host. Shorter words
 * of a path are names, like `v3` or `mainnet`.
 */
export function secretsOfUrl(url: string): readonly string[] {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    return [url];
  }
  const words = [parsed.pathname, parsed.search].flatMap((part) => part.split(/[/?&=]/));
  return [...words.filter((word) => word.length >= 12), parsed.username, parsed.password].flatMap((part) =>
    part === '' ? [] : [part, decoded(part)],
  );
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
