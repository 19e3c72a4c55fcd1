/**
 * Gets the newest certificate of a network's website from what Certificate Transparency logs show, and brings it to the website, or
 * writes it: for a network whose nodes have lost theirs, or whose certificate somebody else ordered by the request that they show.
 *
 *   npm run getcert -- https://SITE [--domain NAME] [--ct https://crt.sh/ | FILE] [--out FILE]
 *
 * Exit codes as `npx dstack site cert`, which brings it: 0 taken (or written), 1 not, 2 the call was wrong.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { $, argv } from 'zx';
import { newestCertificate } from '../cli/site/ct.ts';
import { withIssuers } from '../cli/site/issuers.ts';
import { SiteClient } from '../host/site-client.ts';
import { print, printError, printFailure } from '../lib/daemon/terminal.ts';
import { bytesEqual } from '../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../lib/protocol/errors.ts';
import { readSigningRequest, type SigningRequest } from '../lib/site/signing-request.ts';
import { parseWebCertificate } from '../lib/site/web-certificate.ts';

const USAGE = 'npm run getcert -- https://SITE [--domain NAME] [--ct https://crt.sh/ | FILE] [--out FILE]';

await main().catch((error: unknown) => {
  printFailure('getcert', error);
  process.exitCode = codeOf(error) === 'USAGE' ? 2 : 1;
});

async function main(): Promise<void> {
  const { site, ct, out, domain } = options();
  const csr = await new SiteClient(site).request();
  if (csr === undefined) throw new DstackError('NO_SITE', `the network of ${site} names no domains`);
  const wanted = readSigningRequest(csr);
  const newest = await newestCertificate(ct, domain ?? wanted.names[0]!, (pem) => isWanted(pem, wanted));
  const chain = await withIssuers(derOf(newest));
  if (out !== undefined) {
    writeFileSync(out, chain);
    print(`written to ${out}`);
    return;
  }
  await bring(site, chain);
}

function options() {
  const { _: positionals, ct = 'https://crt.sh/', out, domain, ...others } = argv;
  const [site, ...more] = positionals;
  const texts = [ct, out, domain].every((value) => value === undefined || typeof value === 'string');
  if (
    !/^https:\/\/[^/\s]+\/?$/i.test(site ?? '') ||
    !URL.canParse(site!) ||
    more.length > 0 ||
    Object.keys(others).length > 0 ||
    !texts
  )
    throw new DstackError('USAGE', USAGE);
  const source = /^https?:\/\//i.test(ct) ? { url: ct as string } : { text: listIn(ct) };
  return { site: site!, ct: source, out: out as string | undefined, domain: domain as string | undefined };
}

/** @throws USAGE */
function listIn(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new DstackError('USAGE', `--ct takes https://HOST/ or a file, and ${file} cannot be read: ${code}`);
  }
}

/** Of PEM, or of its base64 alone: sources differ. */
function derOf(pem: string): Uint8Array {
  return new Uint8Array(Buffer.from(pem.replaceAll(/-----[A-Z ]+-----|\s/g, ''), 'base64'));
}

/** For the network's key and names, and no precertificate: those can be told by an extension that nothing understands. */
function isWanted(pem: string, { publicKey, names }: SigningRequest): boolean {
  try {
    const certificate = parseWebCertificate(derOf(pem));
    const named = names.every((name) =>
      certificate.dnsNames.some(
        (pattern) => pattern === name || pattern === `*.${name.slice(name.indexOf('.') + 1)}`,
      ),
    );
    return named && bytesEqual(certificate.publicKey, publicKey);
  } catch (error) {
    if (codeOf(error) === 'INTERNAL') throw error;
    return false;
  }
}

async function bring(site: string, chain: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'getcert-'));
  try {
    const file = join(folder, 'chain.pem');
    writeFileSync(file, chain);
    const main = join(import.meta.dirname, '../cli/main.ts');
    const { exitCode, stdout, stderr } = await $({
      nothrow: true,
      quiet: true,
    })`${process.execPath} ${main} site cert ${site} --file ${file}`;
    for (const line of stdout.trimEnd().split('\n')) print(line);
    if (stderr !== '') printError(stderr.trimEnd());
    process.exitCode = exitCode ?? 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
