/** What the front should be, from what this node's other daemons say. Pure. */

import { codeOf } from '../../lib/protocol/errors.ts';
import type { SiteConfig } from '../../lib/protocol/network-config.ts';
import type { AcmeSite, Upstreams } from '../../lib/protocol/sockets.ts';
import { LED_FOR, LED_WITHOUT } from '../bridges.ts';
import type { Credentials } from './certificate.ts';
import { type FrontState, keyOf } from './front.ts';

export interface Told {
  /** The site's own key, and the certificate that is its own word. */
  readonly credentials: Credentials;
  /** Of network.json. */
  readonly site: SiteConfig | undefined;
  /** Where requests go; absent while nobody has said it. */
  readonly upstream?: Upstreams | undefined;
  /** What acme said last. */
  readonly acme?: AcmeSite | undefined;
}

/** With an authority's chain, if acme has one that can be shown. */
export function frontState(told: Told): FrontState {
  const { site, upstream, acme } = told;
  const sorting = site?.acme?.challenges.includes('tls-alpn-01') ?? false;
  return {
    certificate: certificateOf(told),
    certificates: [],
    sorting,
    challenges: sorting
      ? (acme?.alpn ?? []).map(({ domain, certificate, key }) => ({ domain, chain: certificate, key }))
      : [],
    ...(acme?.thumbprint !== undefined && { thumbprint: acme.thumbprint }),
    sites: sitesOf(site?.domains ?? [], upstream),
  };
}

const NONE: Upstreams = { website: {}, sites: [] };

/** The network's website first. A name of network.json that an app has is that app's. */
function sitesOf(own: readonly string[], { website, sites }: Upstreams = NONE): FrontState['sites'] {
  const domains = own.filter((name) => !sites.some(({ domain }) => domain === name));
  return [
    { domains, ...led(website) },
    ...sites.map(({ domain, ...one }) => ({ domains: [domain], ...led(one) })),
  ];
}

function led({
  upstream,
  waits,
}: Upstreams['website']): Pick<FrontState['sites'][number], 'upstream' | 'waits'> {
  if (upstream === undefined) return waits ? { waits } : {};
  return { upstream: { ...upstream, protocol: upstream.protocol === 'h2c' ? 'h2c' : 'http/1.1' } };
}

/** Why kubernethes says nothing: it is gone, or has not taken over yet what it ran before; or it is there, and silent. */
export type Silence = 'gone' | 'silent';

/** Nobody listens only where there is no process; one that is stuck, or has too many callers, is silent. */
export function silenceOf(error: unknown): Silence {
  if (codeOf(error) === 'NOT_READY') return 'gone';
  const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
  return code === 'ECONNREFUSED' || code === 'ENOENT' ? 'gone' : 'silent';
}

/** What kubernethes has said last. Once nobody knows any more which addresses are still whose, visitors are led nowhere. */
export class Leads {
  #last: { readonly led: Upstreams; readonly at: number } | undefined;
  /** When it was last known that nobody changes what was said. */
  #heldAt = 0;
  readonly #now: () => number;

  /** @param now a monotonic clock, milliseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @returns where visitors are led; undefined before it was ever heard */
  heard(said: Upstreams | Silence): Upstreams | undefined {
    const now = this.#now();
    // Once it was silent for too long, its addresses may be others' by now, also if it is gone since.
    if (said === 'gone' && now - this.#heldAt < LED_FOR) this.#heldAt = now;
    if (typeof said !== 'string') {
      this.#last = { led: said, at: now };
      this.#heldAt = now;
    }
    if (this.#last === undefined) return undefined;
    const { led, at } = this.#last;
    return now - this.#heldAt < LED_FOR && now - at < LED_WITHOUT ? led : ledNowhere(led);
  }
}

/** Nobody is led anywhere, and no domain becomes the website's. */
const ledNowhere = ({ sites }: Upstreams): Upstreams => ({
  website: { reason: STARTING },
  sites: sites.map(({ domain }) => ({ domain, reason: STARTING })),
});

const STARTING = 'the node is still starting';

/** Why there is nothing to show at a name. */
export function reasonAt(host: string, { website, sites }: Upstreams = NONE): string {
  const name = host.toLowerCase().replace(/:\d*$/, '');
  const site = sites.find(({ domain }) => domain === name) ?? website;
  return site.reason ?? STARTING;
}

/** All reasons, for the log; empty when everybody is led somewhere. */
export const reasonsOf = ({ website, sites }: Upstreams = ledNowhere(NONE)): string =>
  [website.reason, ...sites.map(({ domain, reason }) => reason && `${domain}: ${reason}`)]
    .filter((reason) => reason !== undefined)
    .join('; ');

/**
 * The self-signed certificate is provisional: a driver or an acme daemon that starts again, and has not heard of the authority's yet,
 * takes nothing back.
 */
export function certificateOf({ credentials, acme }: Told): FrontState['certificate'] {
  const key = credentials.key.export({ type: 'pkcs8', format: 'pem' }).toString();
  return isOurs(acme?.chain, credentials)
    ? { chain: acme!.chain!, key }
    : { chain: credentials.certificate, key, provisional: true };
}

/** Whether a chain is for the site's own key. All else about it is acme's to judge. */
export function isOurs(chain: string | undefined, { certificate }: Credentials): chain is string {
  if (chain === undefined) return false;
  try {
    return keyOf(chain) === keyOf(certificate);
  } catch {
    return false;
  }
}
