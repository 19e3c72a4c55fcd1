/**
 * What Certificate Transparency logs (RFC 9162) show of a name, from a source shaped like crt.sh: a JSON array of entries, and
 * each entry's certificate by its id. The source is not trusted: it may leave things out, which nobody can see here, and what it
 * shows is compared with the certificate's own bytes.
 */
import { X509Certificate } from 'node:crypto';
import { Type } from 'typebox';
import { httpBytes } from '../../host/http-json.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseJson } from '../../lib/protocol/schema.ts';

const MAX_ENTRIES = 10_000;
const MAX_LIST_BYTES = 32 * 1024 * 1024;
const MAX_CERTIFICATE_BYTES = 64 * 1024;
const LIST_MS = 60_000;
const CERTIFICATE_MS = 20_000;

/** Of what crt.sh says of an entry, what is used here. `pem` is ours: a file that was saved has it. */
const EntrySchema = Type.Object({
  id: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  serial_number: Type.String({ pattern: '^[0-9a-fA-F]{1,64}$', maxLength: 64 }),
  issuer_name: Type.String({ maxLength: 4096 }),
  not_before: Type.String({ maxLength: 40 }),
  not_after: Type.String({ maxLength: 40 }),
  pem: Type.Optional(Type.String({ maxLength: MAX_CERTIFICATE_BYTES })),
});
const EntriesSchema = Type.Array(EntrySchema, { maxItems: MAX_ENTRIES });

/** One certificate, or precertificate, of a log. */
export interface Logged {
  readonly id: number;
  readonly serial: string;
  readonly issuer: string;
  readonly notBefore: string;
  readonly notAfter: string;
  /** SHA-256 of its SubjectPublicKeyInfo, hex; absent where the certificate could not be had or read. */
  readonly key?: string;
  /** Why there is no key. */
  readonly problem?: string;
}

export interface CtLook {
  /** Those that hold for the name. */
  readonly logged: readonly Logged[];
  /** How many were shown in all. */
  readonly shown: number;
  /** The entries with their certificates, to be kept in a file. */
  readonly entries: readonly object[];
}

/**
 * @param source a file, or the address of an endpoint: `https://crt.sh/`
 * @param onProgress told how many of how many certificates were looked at
 * @throws CT_SOURCE, CT_MALFORMED
 */
export async function readCt(
  source: { readonly text: string } | { readonly url: string },
  domain: string,
  onProgress: (done: number, of: number) => void = () => {},
): Promise<CtLook> {
  const list = 'text' in source ? entriesIn(source.text) : await entriesFrom(source.url, domain);
  const entries = [];
  const logged: Logged[] = [];
  for (const [at, entry] of list.entries()) {
    onProgress(at, list.length);
    const pem = entry.pem ?? ('url' in source ? await certificateFrom(source.url, entry.id) : undefined);
    const { id, serial_number, issuer_name, not_before, not_after } = entry;
    entries.push({
      id,
      serial_number,
      issuer_name,
      not_before,
      not_after,
      ...(pem === undefined ? {} : { pem }),
    });
    const found = loggedOf(entry, pem, domain);
    if (found !== undefined) logged.push(found);
  }
  return { logged, shown: list.length, entries };
}

/** How many certificates are asked for until one fits. */
const MAX_TRIED = 100;

/**
 * The newest certificate, PEM, that `fits`: by what the source says of its start, for the source decides what is shown anyway.
 * @throws CT_SOURCE, CT_MALFORMED; CT_NONE when none fits
 */
export async function newestCertificate(
  source: { readonly text: string } | { readonly url: string },
  domain: string,
  fits: (pem: string) => boolean,
): Promise<string> {
  const list = 'text' in source ? entriesIn(source.text) : await entriesFrom(source.url, domain);
  const newest = list.toSorted((a, b) => (a.not_before < b.not_before ? 1 : -1)).slice(0, MAX_TRIED);
  for (const entry of newest) {
    const pem = entry.pem ?? ('url' in source ? await certificateFrom(source.url, entry.id) : undefined);
    if (pem !== undefined && fits(pem)) return pem;
  }
  throw new DstackError(
    'CT_NONE',
    `of ${list.length} certificates that the source shows for ${domain}, none fits among the newest ${newest.length}`,
  );
}

type Entry = ReturnType<typeof entriesIn>[number];

function entriesIn(text: string) {
  return parseJson(EntriesSchema, text, 'CT_MALFORMED', 'the list of logged certificates', MAX_LIST_BYTES);
}

/** Certificates for the name itself, and for all names beside it. */
async function entriesFrom(url: string, domain: string): Promise<Entry[]> {
  const above = domain.slice(domain.indexOf('.') + 1);
  const names = above.includes('.') ? [domain, `*.${above}`] : [domain];
  const byId = new Map<number, Entry>();
  for (const name of names) {
    const text = await get(query(url, { q: name, output: 'json' }), MAX_LIST_BYTES, LIST_MS);
    for (const entry of entriesIn(text)) byId.set(entry.id, entry);
  }
  return [...byId.values()];
}

async function certificateFrom(url: string, id: number): Promise<string | undefined> {
  try {
    return await get(query(url, { d: String(id) }), MAX_CERTIFICATE_BYTES, CERTIFICATE_MS);
  } catch (error) {
    if (codeOf(error) !== 'CT_SOURCE') throw error;
    return undefined;
  }
}

async function get(url: string, maxBytes: number, timeout: number): Promise<string> {
  const { status, bytes } = await httpBytes({ url, maxBytes, timeout }).catch((cause) => {
    throw new DstackError('CT_SOURCE', (cause as Error).message, { cause });
  });
  if (status === 200) return bytes.toString('utf8');
  throw new DstackError('CT_SOURCE', `${new URL(url).host} answers HTTP ${status}`);
}

function query(base: string, fields: Record<string, string>): string {
  const url = new URL(base);
  for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
  return url.href;
}

/** Undefined for one that is of other names. What can't be read counts as of this name, and of nobody's key. */
function loggedOf(entry: Entry, pem: string | undefined, domain: string): Logged | undefined {
  const claimed = {
    id: entry.id,
    serial: serialOf(entry.serial_number),
    issuer: entry.issuer_name,
    notBefore: entry.not_before,
    notAfter: entry.not_after,
  };
  if (pem === undefined) return { ...claimed, problem: 'its certificate could not be had' };
  try {
    const certificate = new X509Certificate(pem);
    if (serialOf(certificate.serialNumber) !== claimed.serial) {
      return { ...claimed, problem: `the certificate shown has another serial, ${certificate.serialNumber}` };
    }
    if (!holdsFor(certificate, domain)) return undefined;
    return {
      id: entry.id,
      serial: claimed.serial,
      issuer: certificate.issuer.replaceAll('\n', ', '),
      notBefore: new Date(certificate.validFrom).toISOString(),
      notAfter: new Date(certificate.validTo).toISOString(),
      key: toHex(sha256(certificate.publicKey.export({ type: 'spki', format: 'der' }))),
    };
  } catch {
    return { ...claimed, problem: 'its certificate can not be read' };
  }
}

/** Also by a name with the root's dot after it: no authority should write that, but Chromium takes it for the same. */
function holdsFor(certificate: X509Certificate, domain: string): boolean {
  if (certificate.checkHost(domain, { partialWildcards: false }) !== undefined) return true;
  const absolute = [domain, domain.replace(/^[^.]+/, '*')].map((name) => `dns:${name}.`);
  const names = (certificate.subjectAltName ?? '').split(', ').map((name) => name.toLowerCase());
  return absolute.some((name) => names.includes(name));
}

const serialOf = (hex: string): string => hex.toLowerCase().replace(/^0+(?=.)/, '');
