/** What the commands about websites take on the command line. */
import { UsageError } from '../command.ts';

/** `https://HOST[:PORT]`. @throws USAGE */
export function siteOf(text: string): URL {
  const url = /^https:\/\/[^\s]+$/i.test(text) ? URL.parse(text) : null;
  if (url === null || url.username !== '' || url.password !== '')
    throw new UsageError(`a site is https://HOST[:PORT], not ${JSON.stringify(text.slice(0, 100))}`);
  return new URL(url.origin);
}

/** @throws USAGE */
export function urlOf(what: string, text: string): URL {
  if (!/^https?:\/\/[^\s]+$/i.test(text) || !URL.canParse(text)) {
    throw new UsageError(`${what} takes an http(s) URL, not ${JSON.stringify(text.slice(0, 100))}`);
  }
  return new URL(text);
}

/** @throws USAGE */
export function domainOf(text: string): string {
  const label = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?';
  if (text.length <= 253 && new RegExp(`^${label}(\\.${label})+$`).test(text)) return text;
  throw new UsageError(
    `DOMAIN is a name in lower case, such as example.com, not ${JSON.stringify(text.slice(0, 100))}`,
  );
}
