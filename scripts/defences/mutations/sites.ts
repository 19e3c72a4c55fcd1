/** Apps with domains of their own, and what a container may ask of its node. */
import { type Mutation, one } from '../mutation.ts';

const SITES = 'guest/tls/sites.test.ts';
const FRONT = 'guest/tls/front.ts';
const DOMAINS = ['guest/kubernethes/domains.ts', 'guest/kubernethes/domains.test.ts'] as const;
const SUPERVISOR = ['guest/kubernethes/supervisor.ts', 'guest/kubernethes/supervisor.test.ts'] as const;

export const sitesRules: readonly Mutation[] = [
  one(
    'front',
    'what a manifest lets a container ask of its node',
    ['guest/agent/server.ts', 'missing.length === 0 && api.length > 0', 'missing.length < 9'],
    ['guest/agent/agent.test.ts', 'a container gets what its manifest lets it ask for'],
  ),
  one(
    'front',
    'the one spelling of a domain',
    [
      'lib/protocol/manifest.ts',
      'return !/(^|\\.)xn--/.test(shown) && domainToASCII(shown) === domain;',
      'return true;',
    ],
    ['lib/protocol/manifest.test.ts', 'which no browser asks for'],
  ),
  one(
    'front',
    'the first app in the contract has a domain',
    [DOMAINS[0], 'if (holders.has(domain)) continue;', ''],
    [DOMAINS[1], 'of two apps with one domain'],
  ),
  one(
    'front',
    'waiting for the manifest of an app before this one',
    [DOMAINS[0], 'const isSure = away === undefined ||', 'const isSure = had === undefined ||'],
    [DOMAINS[1], 'a host that holds back'],
  ),
  one(
    'front',
    "refusing an app that wants another's domain",
    [SUPERVISOR[0], 'if (app !== name)', "if (app === '')"],
    [SUPERVISOR[1], "an app that wants another's domain"],
  ),
  one(
    'front',
    "the network's own name is no app's",
    [
      SUPERVISOR[0],
      'domains?.filter((domain) => domain !== ownName);',
      'ownName === undefined ? [] : domains;',
    ],
    [SUPERVISOR[1], "the network's own name is no app's"],
  ),
  one(
    'front',
    "comparing the handshake's name with the request's host",
    [
      'guest/tls/front-config.ts',
      '  http-request deny deny_status 421 unless { var(txn.site),strcmp(txn.named) eq 0 } || hostless for-website\n',
      '',
    ],
    [SITES, 'in the handshake gets nothing of'],
  ),
  one(
    'front',
    'a place that nobody is led to, for a site that is new',
    [FRONT, 'taken === undefined && ledTo(index).length === 0', 'taken === undefined'],
    [SITES, 'with every place taken'],
  ),
  one(
    'front',
    'the place that a site has',
    [FRONT, 'if (own > 0 && places[own] === undefined) places[own] = site;', ''],
    [SITES, 'a driver that starts again finds each site where it is'],
  ),
];
