/**
 * dns-persist-01 (draft-ietf-acme-dns-persist): one static record in the DNS lets this account have certificates for a name. The
 * owner sets it once, and no guest needs a credential for the DNS. Without it an order is bound to fail, so the record is looked
 * for before one is made: by the host's name servers, which can hold an order back by this, as they could anyway, and no more.
 */
import type { Resolver } from 'node:dns/promises';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Account } from './authority.ts';

const LABEL = '_validation-persist';
/** More than anybody has for a name. */
const MAX_RECORDS = 50;

/** @throws ACME_RECORD_MISSING with the record that has to be set. What cannot be found out counts as set. */
export async function requireRecords(
  names: readonly string[],
  account: Account,
  resolver: Pick<Resolver, 'resolveTxt'>,
): Promise<void> {
  for (const name of names) {
    if (await mayBeSet(name, account, resolver)) continue;
    const issuer = account.issuers[0] ?? "the authority's name";
    throw new DstackError(
      'ACME_RECORD_MISSING',
      `the DNS has to have: ${LABEL}.${name}. TXT "${issuer}; accounturi=${account.url}"`,
    );
  }
}

/** At the name itself, or above it with a policy for all names below. */
async function mayBeSet(
  name: string,
  account: Account,
  resolver: Pick<Resolver, 'resolveTxt'>,
): Promise<boolean> {
  const labels = name.split('.');
  for (let above = 0; above < labels.length - 1; above++) {
    const records = await textsOf(`${LABEL}.${labels.slice(above).join('.')}`, resolver);
    if (records === undefined || records.some((record) => permits(record, account, above > 0))) return true;
  }
  return false;
}

/** Issuer and parameters, as in CAA (RFC 8659, section 4.2). The authority reads it; this only keeps from asking in vain. */
function permits(record: string, { url, issuers }: Account, wildcard: boolean): boolean {
  const [issuer, ...parameters] = record.split(';').map((part) => part.trim());
  const has = (name: string, value: string) => parameters.includes(`${name}=${value}`);
  return (
    (issuers.length === 0 || issuers.includes(issuer!.toLowerCase())) &&
    has('accounturi', url) &&
    (!wildcard || parameters.some((parameter) => parameter.toLowerCase() === 'policy=wildcard'))
  );
}

/** Undefined when it cannot be found out. */
async function textsOf(name: string, resolver: Pick<Resolver, 'resolveTxt'>): Promise<string[] | undefined> {
  try {
    return (await resolver.resolveTxt(name)).slice(0, MAX_RECORDS).map((parts) => parts.join(''));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOTFOUND' || code === 'ENODATA' ? [] : undefined;
  }
}
