/**
 * Which app a domain is of: pure. The chain decides: the contract's order of apps, which never changes, and the manifests that it names.
 * So every node says the same, and a host that holds back an app's manifest gives its domains to nobody else.
 */
import { APP_DOMAINS } from '../../lib/protocol/sockets.ts';

/** The domains that an app names, by its manifests. */
export interface Claims {
  readonly name: string;
  /** By the manifest in force; undefined while nobody knows what that says. */
  readonly inForce: readonly string[] | undefined;
  /** By the one whose containers run; undefined when there is none. */
  readonly serving: readonly string[] | undefined;
}

export interface Holder {
  readonly app: string;
  /** An app before it whose manifest may name the domain too, and is not here: until it is, the domain is nobody's. */
  readonly unless?: string;
}

/**
 * Of apps that name the same domain, the first in the contract has it. What is in force comes before what still runs.
 *
 * @param apps in the contract's order
 * @param before what this said last: an app keeps what it has while another's manifest is away
 * @returns by domain, in that order; at most APP_DOMAINS
 */
export function holdersOf(
  apps: readonly Claims[],
  before: ReadonlyMap<string, Holder>,
): ReadonlyMap<string, Holder> {
  const holders = new Map<string, Holder>();
  let away: string | undefined;
  for (const { name, inForce, serving } of apps) {
    for (const domain of inForce ?? serving ?? []) {
      if (holders.has(domain)) continue;
      const had = before.get(domain);
      const isSure = away === undefined || (had?.app === name && had.unless === undefined);
      holders.set(domain, { app: name, ...(!isSure && { unless: away! }) });
    }
    // While it serves, its next manifest changes nothing before it is here.
    if (inForce === undefined && serving === undefined) away ??= name;
  }
  for (const { name, serving = [] } of apps)
    for (const domain of serving) if (!holders.has(domain)) holders.set(domain, { app: name });
  return new Map([...holders].slice(0, APP_DOMAINS));
}
