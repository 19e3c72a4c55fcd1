/**
 * Takes secrets out of text that a browser will show. No line of the relay's log is meant to hold one; this is the second wall, for
 * errors of libraries that quote what they were given. It knows this host's own secrets by their text, and the usual forms of others'.
 */

const REMOVED = '[removed]';

/** Forms of secrets whose text is not known beforehand, and what is left of each. */
const FORMS: readonly (readonly [RegExp, string])[] = [
  // A URL's user and password (RFC 3986, section 3.2.1), and what a query often carries.
  [/\b([a-z][a-z0-9+.-]{1,20}:\/\/)[^\s/?#@"']{1,500}@/gi, `$1${REMOVED}@`],
  [
    /([?&](?:[\w-]{0,30}(?:key|token|secret|password|auth|sig)[\w-]{0,30})=)[^\s&"'#]{1,2000}/gi,
    `$1${REMOVED}`,
  ],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,2000}/gi, `$1 ${REMOVED}`],
  [
    /-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]{0,10000}?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|$)/g,
    REMOVED,
  ],
  // A field with such a name, in JSON (also JSON in JSON, whose quotes have backslashes) or as name=value.
  [
    /((?:private[_-]?key|secret|password|passphrase|mnemonic|api[_-]?key|authorization)(?:\\*")?\s{0,3}[:=]\s{0,3})(?:\\*"[^"\\]{0,2000}|[^\s,;"\\}]{1,2000})/gi,
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
