/** The file of `network config --site`: what people mistype in it, told in words. All else is checked with network.json. */
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { DomainName } from '../../lib/protocol/network-config.ts';
import { UsageError } from '../command.ts';

const Sketch = Type.Object({
  domains: Type.Optional(Type.Array(Type.String())),
  acme: Type.Optional(
    Type.Object({
      directory: Type.Optional(Type.String()),
      contact: Type.Optional(Type.Array(Type.String())),
      challenges: Type.Optional(Type.Array(Type.String())),
    }),
  ),
});
const CHALLENGES = ['http-01', 'tls-alpn-01', 'dns-persist-01'];

/** @param file its name, for people. @throws USAGE */
export function readSiteFile(text: string, file: string): unknown {
  const value = insideOf(parsed(text.replace(/^\ufeff/, ''), file));
  if (!Value.Check(Sketch, value)) return value;
  const { domains = [], acme: { directory, contact = [], challenges = [] } = {} } = value;
  const wrong = (what: string, given: string, rule: string) =>
    new UsageError(`${what} in ${file} (--site) ${rule}, not ${JSON.stringify(given.slice(0, 100))}`);
  for (const name of domains)
    if (!Value.Check(DomainName, name))
      throw wrong(
        'a domain',
        name,
        'is such as www.example.com: lower case, no https://, *, port or last dot',
      );
  if (directory !== undefined && !directory.startsWith('https://'))
    throw wrong('acme.directory', directory, 'is the https:// URL of an authority');
  for (const address of contact)
    if (!address.startsWith('mailto:'))
      throw wrong('acme.contact', address, 'is such as mailto:you@example.com');
  for (const challenge of challenges)
    if (!CHALLENGES.includes(challenge))
      throw wrong('acme.challenges', challenge, `has ${CHALLENGES.join(', ')}`);
  return value;
}

function parsed(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(
      `--site takes a JSON file, from { to }, and ${file} is none: ${(cause as Error).message}`,
    );
  }
}

/** Somebody may give it as it stands in network.json. */
function insideOf(value: unknown): unknown {
  const isWrapped = typeof value === 'object' && value !== null && Object.keys(value).join() === 'site';
  return isWrapped ? (value as { site: unknown }).site : value;
}
