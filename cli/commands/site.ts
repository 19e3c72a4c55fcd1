/** `site …`: what a stranger can find out about a website that says that a network serves it. docs/site.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { type SiteEvidence, SiteEvidenceSchema } from '../../lib/protocol/site-evidence.ts';
import { readHistory } from '../audit/history.ts';
import type { Arguments, Command } from '../command.ts';
import { flavourOf } from '../flavour.ts';
import { connectNetwork, type NetworkConnection } from '../owner/connection.ts';
import { domainOf, siteOf, urlOf } from '../site/arguments.ts';
import { type Logged, readCt } from '../site/ct.ts';
import { keptKey, keyOf, type SiteKey } from '../site/keys.ts';
import { type Look, lookAt, lookOptions, waitOf, wholeNumber } from '../site/look.ts';
import { certCommand } from './site-cert.ts';
import { dnsCommand } from './site-dns.ts';

const PROVES = [
  "whoever holds the TLS key of this connection has the network's secret: the network key signed it, for this visit",
  'a machine with this measurement, configuration and platform, all allowed by the contract now, said so in a fresh quote',
];
/** @param hostImpersonable as the node says */
const proves = ({ hostImpersonable }: SiteEvidence): readonly string[] =>
  hostImpersonable
    ? PROVES
    : [
        ...PROVES,
        "the node saw, by two resolvers, DNS records that leave certificates for the names in network.json to the network's own account",
      ];
const DOES_NOT_PROVE = [
  "that your browser's connection is made with this key: compare its certificate, or use `site audit` to find others; where hostImpersonable is true, the node's host could have a certificate of its own",
  'that no other machine has the key: all nodes share it, and one that was revoked keeps it until the network rotates its secret',
  'what the app does with what you send: that is in the manifest that the contract names',
  "anything against the contract's owner after the delay, a broken CPU, or your own endpoints lying together (docs/threat-model.md)",
];

const verify: Command = {
  name: 'site verify',
  summary: 'visits a website and says whether the network behind the contract ends its TLS; exits 1 when not',
  positionals: ['URL'],
  options: {
    ...lookOptions,
    out: { value: 'FILE', help: 'keeps the evidence, if it is accepted, for a later site audit' },
  },
  async run(args) {
    const site = siteOf(args.positionals[0]!);
    const flavour = flavourOf(args);
    waitOf(args);
    const connection = await connectNetwork(args, 'network');
    const look = await lookAt(site, connection, flavour, args);
    const out = args.optional('out');
    if (out !== undefined && look.verdict === 'accept') {
      writeFileSync(out, `${JSON.stringify(look.visit!.evidence)}\n`);
    }
    if (args.flag('json')) printJson(asJson(look, site, connection));
    else print(...asText(look, site, connection));
    if (look.verdict !== 'accept') process.exitCode = 1;
  },
};

function asJson(look: Look, site: URL, { chainId, contract, sources }: NetworkConnection): object {
  const { visit: seen, ...verdict } = look;
  return {
    ...verdict,
    site: site.origin,
    chainId,
    contract,
    chain: sources,
    ...(seen === undefined
      ? {}
      : {
          key: toHex(sha256(seen.publicKey)),
          browser: seen.browserRefuses ?? 'accepts the certificate',
          claims: claimsOf(seen.evidence),
        }),
    ...(look.verdict === 'accept'
      ? { proves: proves(look.visit!.evidence), doesNotProve: DOES_NOT_PROVE }
      : {}),
  };
}

const claimsOf = ({
  epoch,
  networkKey,
  measurement,
  config,
  platform,
  blockNumber,
  hostImpersonable,
  rawQuotes,
}: SiteEvidence) => ({
  epoch,
  networkKey,
  measurement,
  config,
  platform,
  blockNumber,
  hostImpersonable,
  ...(rawQuotes === undefined ? {} : { rawQuotes }),
});

function asText(look: Look, site: URL, { contract, sources }: NetworkConnection): readonly string[] {
  const { visit: seen } = look;
  const claims = seen === undefined ? [] : Object.entries(claimsOf(seen.evidence));
  return [
    `site     ${site.origin}`,
    `network  ${contract}, by the word of ${sources}`,
    ...look.steps.map(({ name, outcome, detail }) => `  ${outcome.padEnd(8)} ${name.padEnd(18)} ${detail}`),
    ...(look.verdict === 'accept' ? claims.map(([name, value]) => `  ${name.padEnd(14)} ${value}`) : []),
    ...(seen === undefined
      ? []
      : [
          seen.browserRefuses === undefined
            ? '  a browser accepts the certificate'
            : `  a browser warns of the certificate (${seen.browserRefuses})`,
        ]),
    ...(look.verdict === 'accept'
      ? ['', 'proved', ...proves(seen!.evidence).map(item), 'not proved', ...DOES_NOT_PROVE.map(item)]
      : []),
    '',
    `verdict  ${look.verdict === 'accept' ? 'yes' : look.verdict === 'reject' ? 'NO' : 'not known'}${look.code === null ? '' : `, ${look.code}`}: ${look.message}`,
  ];
}

const item = (text: string): string => `  - ${text}`;

const audit: Command = {
  name: 'site audit',
  summary: "compares what CT logs show of a domain with the network's TLS keys; exits 1 when one is foreign",
  positionals: ['DOMAIN'],
  options: {
    ct: {
      value: 'FILE|URL',
      help: "a list of logged certificates shaped like crt.sh's, or where to ask for one: https://crt.sh/",
      required: true,
    },
    site: { value: 'URL', help: "where the network's key of now is asked for; https://DOMAIN when left out" },
    evidence: {
      value: 'FILE',
      help: 'kept by `site verify --out`: keys of old epochs, or of the present one in place of a visit; give several',
      multiple: true,
    },
    from: {
      value: 'BLOCK',
      help: 'not after the deployment: where keys of old epochs are looked for',
      default: '0',
    },
    ...lookOptions,
    out: { value: 'FILE', help: 'keeps what the logs showed, with the certificates, as a file for --ct' },
  },
  async run(args) {
    const domain = domainOf(args.positionals[0]!);
    waitOf(args);
    wholeNumber('from', args.text('from'));
    const connection = await connectNetwork(args, 'network');
    const known = await keysOf(args, domain, connection);
    const look = await readCt(ctOf(args), domain, progress());
    const out = args.optional('out');
    if (out !== undefined) writeFileSync(out, `${JSON.stringify(look.entries)}\n`);
    const report = compare(domain, known, look.logged, look.shown);
    if (args.flag('json')) printJson(report);
    else print(...auditText(report));
    if (report.foreign.length > 0) process.exitCode = 1;
  },
};

interface KnownKeys {
  readonly keys: readonly SiteKey[];
  readonly epoch: number;
  /** Epochs that the network had, of which no key is known here. */
  readonly unknown: readonly number[];
}

/** @throws the code of whatever is wrong with the site or with kept evidence: an audit by a wrong key is none */
async function keysOf(args: Arguments, domain: string, connection: NetworkConnection): Promise<KnownKeys> {
  const { reader, chainId, contract } = connection;
  const flavour = flavourOf(args);
  const network = { chainId, contract };
  const head = await reader.chain.head();
  const { epoch, networkKey } = await reader.network(head);
  const files = args.list('evidence').map((file) => ({ file, evidence: keptIn(file) }));
  const isOld = files.some(({ evidence }) => evidence.epoch !== epoch);
  const past = epoch > 1 || isOld ? await networkKeysOf(args, connection, head) : new Map<number, Address>();
  const networkKeys = new Map([...past, [epoch, networkKey]]);
  const keys: SiteKey[] = [];
  for (const { file, evidence } of files) {
    keys.push(await keptKey(evidence, file, { network, flavour, networkKeys, reader }));
  }
  if (args.optional('site') !== undefined || !keys.some((key) => key.epoch === epoch)) {
    const site = siteOf(args.optional('site') ?? `https://${domain}`);
    const look = await lookAt(site, connection, flavour, args);
    if (look.verdict !== 'accept') throw new DstackError(look.code!, look.message);
    keys.push(keyOf(look.visit!.evidence, site.origin));
  }
  const have = new Set(keys.map((key) => key.epoch));
  return { keys, epoch, unknown: [...networkKeys.keys()].filter((known) => !have.has(known)) };
}

/** Which network key each epoch had, from the contract's own events: all endpoints have to show the same ones. */
async function networkKeysOf(
  args: Arguments,
  connection: NetworkConnection,
  head: Awaited<ReturnType<NetworkConnection['chain']['head']>>,
): Promise<Map<number, Address>> {
  const { entries } = await readHistory({
    endpoints: connection.urls,
    contract: connection.contract,
    from: wholeNumber('from', args.text('from')),
    head,
  });
  return new Map(
    entries.flatMap(({ event }) =>
      event.name === 'Bootstrapped' ? [[Number(event.epoch), event.networkKey] as const] : [],
    ),
  );
}

function keptIn(file: string): SiteEvidence {
  return parseJson(
    SiteEvidenceSchema,
    readFileSync(file, 'utf8'),
    'SITE_MALFORMED',
    `the evidence in ${file}`,
    MESSAGE_MAX_BYTES,
  );
}

interface AuditReport {
  readonly domain: string;
  readonly epoch: number;
  readonly keys: readonly SiteKey[];
  readonly unknownEpochs: readonly number[];
  /** Certificates that the source showed, of them for this name, and of these with a key of the network. */
  readonly shown: number;
  readonly forDomain: number;
  readonly own: number;
  readonly foreign: readonly Logged[];
  readonly limits: readonly string[];
}

function compare(domain: string, known: KnownKeys, logged: readonly Logged[], shown: number): AuditReport {
  const own = new Set(known.keys.map((key) => key.sha256));
  const foreign = logged.filter(({ key }) => key === undefined || !own.has(key));
  return {
    domain,
    epoch: known.epoch,
    keys: known.keys,
    unknownEpochs: known.unknown,
    shown,
    forDomain: logged.length,
    own: logged.length - foreign.length,
    foreign,
    limits: [
      'what the source leaves out is not seen: ask another one too',
      'certificates that no log has are not seen; browsers of today refuse those',
      ...(known.unknown.length === 0
        ? []
        : [
            `no evidence of epoch ${known.unknown.join(', ')} was given: a key of it is listed as foreign (--evidence)`,
          ]),
    ],
  };
}

function auditText(report: AuditReport): readonly string[] {
  return [
    `domain   ${report.domain}`,
    ...report.keys.map(({ epoch, sha256: key, from }) => `key      ${key}, epoch ${epoch}, from ${from}`),
    `logs     ${report.shown} certificates shown, ${report.forDomain} for this name, ${report.own} of the network's keys`,
    ...report.foreign.flatMap(({ id, serial, issuer, notBefore, notAfter, key, problem }) => [
      `FOREIGN  ${key ?? problem}`,
      `           serial ${serial}, log entry ${id}, from ${notBefore} to ${notAfter}`,
      `           by ${issuer}`,
    ]),
    '',
    ...report.limits.map(item),
    '',
    report.foreign.length === 0
      ? 'verdict  no foreign key'
      : `verdict  ${report.foreign.length} FOREIGN: whoever has such a key can end this name's TLS`,
  ];
}

function ctOf(args: Arguments): { text: string } | { url: string } {
  const given = args.text('ct');
  return /^https?:\/\//.test(given)
    ? { url: urlOf('--ct', given).href }
    : { text: readFileSync(given, 'utf8') };
}

/** A line now and then, only once it takes longer than a person likes to wait for nothing. */
function progress(): (done: number, of: number) => void {
  let said = Date.now();
  return (done, of) => {
    if (Date.now() - said < 2_000) return;
    said = Date.now();
    printError(`${done} of ${of} certificates`);
  };
}

export const siteCommands: readonly Command[] = [verify, audit, certCommand, dnsCommand];
