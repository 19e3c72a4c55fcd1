/**
 * `site dns`: the DNS records that leave certificates for a name to the network's own account, and whether its node sees them. A wrong
 * account in them would be somebody else's, so nothing is printed that did not come from the network: by a connection whose key the
 * evidence is of. docs/site-certificates.md.
 */
import { SiteClient } from '../../host/site-client.ts';
import { print, printJson } from '../../lib/daemon/terminal.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { AcmeStatus } from '../../lib/protocol/sockets.ts';
import { zoneLines } from '../../lib/site/caa.ts';
import { readSigningRequest } from '../../lib/site/signing-request.ts';
import { type Command, UsageError } from '../command.ts';
import { flavourOf } from '../flavour.ts';
import { connectNetwork } from '../owner/connection.ts';
import { domainOf, siteOf } from '../site/arguments.ts';
import { lookAt, lookOptions, waitOf } from '../site/look.ts';

export const dnsCommand: Command = {
  name: 'site dns',
  summary:
    'prints DNS records that keep others from certificates for a name; exits 1 while the node does not see them',
  positionals: ['DOMAIN'],
  options: {
    site: { value: 'URL', help: 'a node of the network; https://DOMAIN when left out' },
    ...lookOptions,
  },
  async run(args) {
    const domain = domainOf(args.positionals[0]!);
    const site = siteOf(args.optional('site') ?? `https://${domain}`);
    const flavour = flavourOf(args);
    waitOf(args);
    const connection = await connectNetwork(args, 'network');
    const look = await lookAt(site, connection, flavour, args);
    const report =
      look.visit === undefined || look.verdict !== 'accept'
        ? { verdict: look.verdict, code: look.code, message: look.message, records: [] }
        : await recordsFor(domain, site, look.visit.evidence);
    if (args.flag('json')) printJson({ domain, site: site.origin, ...report });
    else print(...asText(domain, site, report));
    if (report.verdict !== 'accept') process.exitCode = 1;
  },
};

interface Report {
  readonly verdict: 'accept' | 'reject' | 'unknown';
  readonly code: string | null;
  readonly message: string;
  /** Zone lines. */
  readonly records: readonly string[];
}

async function recordsFor(
  domain: string,
  site: URL,
  evidence: { readonly publicKey: string; readonly hostImpersonable: boolean },
): Promise<Report> {
  try {
    const client = new SiteClient(site.origin, fromHex(evidence.publicKey));
    await requireName(domain, client);
    const status = await client.status();
    const records = zoneLines(domain, policyOf(status));
    return { ...seen(evidence.hostImpersonable, status), records };
  } catch (error) {
    if (!(error instanceof DstackError) || error instanceof UsageError) throw error;
    const verdict = /^SITE_(UNREACHABLE|BUSY|NOT_READY)$/.test(error.code) ? 'unknown' : 'reject';
    return { verdict, code: error.code, message: error.message, records: [] };
  }
}

/** @throws NO_SITE, SITE_NAME */
async function requireName(domain: string, client: SiteClient): Promise<void> {
  const request = await client.request();
  if (request === undefined)
    throw new DstackError('NO_SITE', 'the network names no domains in its network.json');
  const { names } = readSigningRequest(request);
  if (names.includes(domain)) return;
  throw new DstackError('SITE_NAME', `${domain} is none of the network's names: ${names.join(', ')}`);
}

/** @throws SITE_ACCOUNT */
function policyOf({ account, issuers = [], methods = [] }: AcmeStatus) {
  if (account !== undefined) return { account, issuers, methods };
  throw new DstackError(
    'SITE_ACCOUNT',
    'the node has no account at an authority: it makes one soon after its start, if network.json names an authority',
  );
}

/** @param hostImpersonable as the evidence has it: signed */
function seen(hostImpersonable: boolean, { caa }: AcmeStatus): Omit<Report, 'records'> {
  if (!hostImpersonable)
    return {
      verdict: 'accept',
      code: null,
      message: 'the node sees these records for all names of the network',
    };
  const { code = 'CAA_UNKNOWN', reason = 'it has not looked yet' } = caa ?? {};
  return {
    verdict: 'reject',
    code,
    message: `the node does not see them for all names of the network yet: ${reason}`,
  };
}

function asText(domain: string, site: URL, { verdict, code, message, records }: Report): readonly string[] {
  return [
    `domain   ${domain}, by the word of the network at ${site.origin}`,
    ...records,
    `verdict  ${verdict === 'accept' ? 'yes' : verdict === 'reject' ? 'NO' : 'not known'}${code === null ? '' : `, ${code}`}: ${message}`,
  ];
}
