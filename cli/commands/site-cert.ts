/** `site cert`: the website's certificate, as a node says it stands; and the way to bring it one. docs/site-certificates.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { SiteClient } from '../../host/site-client.ts';
import { encodePemBlock } from '../../lib/attestation/bytes/pem.ts';
import { print, printJson } from '../../lib/daemon/terminal.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { readSigningRequest } from '../../lib/site/signing-request.ts';
import { type Command, narrationOptions, UsageError } from '../command.ts';
import { siteOf } from '../site/arguments.ts';
import { certificatesIn, type ShownCertificate, shownCertificate } from '../site/chain.ts';

export const certCommand: Command = {
  name: 'site cert',
  summary: "shows a website's certificate, or brings it one; exits 1 when there is none, or it is not taken",
  positionals: ['URL'],
  options: {
    file: { value: 'FILE', help: 'brings this chain: PEM, the own certificate first, 16 KiB at most' },
    from: { value: 'URL', help: 'brings what this other website of the network shows' },
    out: { value: 'FILE', help: 'writes the chain that the website uses' },
    csr: { value: 'FILE', help: 'writes what an authority is to sign (PKCS #10, PEM)' },
    json: { help: 'prints one JSON object' },
    quiet: narrationOptions.quiet,
  },
  async run(args) {
    const site = siteOf(args.positionals[0]!);
    const [file, from] = [args.optional('file'), args.optional('from')];
    if (file !== undefined && from !== undefined) throw new UsageError('--file and --from: give one of them');
    const other = from === undefined ? undefined : siteOf(from);
    const client = new SiteClient(site.origin);
    const report = await outcomeOf(async () => {
      const request = await client.request();
      if (request === undefined)
        throw new DstackError('NO_SITE', `the network of ${site.host} names no domains in its network.json`);
      const csr = args.optional('csr');
      if (csr !== undefined) writeFileSync(csr, encodePemBlock('CERTIFICATE REQUEST', request));
      const brought =
        file !== undefined
          ? readChain(file)
          : other === undefined
            ? undefined
            : await chainOf(new SiteClient(other.origin), other);
      if (brought !== undefined) await client.give(brought);
      const chain = brought ?? (await chainOf(client, site));
      const wanted = readSigningRequest(request);
      requireKey(chain, wanted.publicKey);
      const out = args.optional('out');
      if (out !== undefined) writeFileSync(out, chain);
      return { ...wanted, chain, taken: brought !== undefined };
    });
    if (args.flag('json')) printJson({ site: site.origin, ...report });
    else print(...asText(site, report));
    if (report.verdict !== 'accept') process.exitCode = 1;
  },
};

interface Report {
  /** `unknown` for what says nothing about the certificate: the website could not be asked, or not now. */
  readonly verdict: 'accept' | 'reject' | 'unknown';
  readonly code: string | null;
  readonly message: string;
  /** SHA-256 of the SubjectPublicKeyInfo that the website asks a certificate for, hex; and for which names. */
  readonly key?: string;
  readonly names?: readonly string[];
  readonly certificate?: ShownCertificate;
}

const UNKNOWN = /^SITE_(UNREACHABLE|BUSY|NOT_READY)$/;

async function outcomeOf(
  work: () => Promise<{ publicKey: Uint8Array; names: readonly string[]; chain: string; taken: boolean }>,
): Promise<Report> {
  try {
    const { publicKey, names, chain, taken } = await work();
    return {
      verdict: 'accept',
      code: null,
      message: taken
        ? 'the website uses it now'
        : 'this is what the website uses, by the word of who answered',
      key: toHex(sha256(publicKey)),
      names,
      certificate: shownCertificate(chain),
    };
  } catch (error) {
    if (!(error instanceof DstackError) || error instanceof UsageError) throw error;
    const { code, message } = error;
    return { verdict: UNKNOWN.test(code) ? 'unknown' : 'reject', code, message };
  }
}

/** @throws CERT_MALFORMED, CERT_KEY */
function requireKey(chain: string, publicKey: Uint8Array): void {
  if (shownCertificate(chain).key !== toHex(sha256(publicKey)))
    throw new DstackError('CERT_KEY', 'the website shows a certificate for another key than it asks one for');
}

function asText(site: URL, { verdict, code, message, key, names, certificate }: Report): readonly string[] {
  const fields = Object.entries(certificate ?? {});
  return [
    `site     ${site.origin}`,
    ...(key === undefined ? [] : [`request  for key ${key}`, `           names ${names!.join(', ')}`]),
    ...fields.map(([name, value]) => `  ${name.padEnd(9)} ${value}`),
    `verdict  ${verdict === 'accept' ? 'yes' : verdict === 'reject' ? 'NO' : 'not known'}${code === null ? '' : `, ${code}`}: ${message}`,
  ];
}

/** @throws USAGE, CERT_MALFORMED */
function readChain(file: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new UsageError(`cannot read ${file} (--file): ${code}`);
  }
  return certificatesIn(bytes.toString('latin1'), file);
}

/** @throws SITE_*, NO_CERTIFICATE, CERT_MALFORMED */
async function chainOf(client: SiteClient, { host }: URL): Promise<string> {
  const chain = await client.chain();
  if (chain !== undefined) return certificatesIn(chain, host);
  throw new DstackError('NO_CERTIFICATE', `${host} has its self-signed certificate alone`);
}
