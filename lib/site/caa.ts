/**
 * The CAA records (RFC 8659) that leave certificates for the website's names to the network's own account, with the parameters of
 * RFC 8657. The host of a node is on the path: http-01 and tls-alpn-01 it can answer itself, for an account of its own. An authority
 * that reads `accounturi` refuses that, since the account's key is derived from the network's secret. What they print for the
 * owner (`site dns`) is what nodes look for (guest/acme/caa.ts).
 */
import { DstackError } from '../protocol/errors.ts';

/** A record as the DNS has it. */
export interface CaaRecord {
  readonly flags: number;
  readonly tag: string;
  readonly value: string;
}

export interface CaaPolicy {
  /** The account's URL at the authority. */
  readonly account: string;
  /** The names by which records mean the authority: `caaIdentities` of its directory (RFC 8555, section 7.1.1). */
  readonly issuers: readonly string[];
  /** ACME's validation methods that the network uses. */
  readonly methods: readonly string[];
}

const LABEL = '[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*';
/** issue-value of RFC 8659, section 4.2. */
const VALUE = new RegExp(`^[ \\t]*(${LABEL}(?:\\.${LABEL})*)?[ \\t]*(?:;(.*))?$`);
const PARAMETER = new RegExp(`^[ \\t]*(${LABEL})[ \\t]*=[ \\t]*([!-:<-~]*)[ \\t]*$`);

/**
 * Zone lines for a name, the same for all of the network's. No wildcard is issued: the network asks for none.
 * @throws CAA_POLICY when there is no authority to name
 */
export function zoneLines(domain: string, { account, issuers, methods }: CaaPolicy): string[] {
  const [issuer] = issuers;
  if (issuer === undefined || methods.length === 0)
    throw new DstackError('CAA_POLICY', 'the authority says no name by which CAA records could mean it');
  const parameters = `accounturi=${account}; validationmethods=${methods.join(',')}`;
  return [
    `${domain}. IN CAA 0 issue "${issuer}; ${parameters}"`,
    `${domain}. IN CAA 0 issuewild ";"`,
    ...(methods.includes('dns-persist-01')
      ? [`_validation-persist.${domain}. IN TXT "${issuer}; accounturi=${account}"`]
      : []),
  ];
}

/**
 * Whether these records, those that count for a name, leave no way but the network's account: each that lets anybody issue names
 * the network's authority, the account, and methods that the network uses; and there is one.
 * @throws CAA_MISSING, CAA_MALFORMED, CAA_ISSUER, CAA_ACCOUNT, CAA_METHODS
 */
export function requireOwnAccount(records: readonly CaaRecord[], policy: CaaPolicy): void {
  const tagged = records.map(({ tag, value }) => ({ tag: tag.toLowerCase(), value }));
  const letting = tagged
    .filter(({ tag }) => tag === 'issue' || tag === 'issuewild')
    .filter(({ tag, value }) => requireProperty(value, policy) && tag === 'issue');
  // Without one of `issue` any authority may; with `;` alone nobody may, which is not what a network with an account wants.
  if (letting.length === 0)
    throw new DstackError('CAA_MISSING', 'no CAA record lets the account of the network have certificates');
}

/** False for one that lets nobody issue. */
function requireProperty(value: string, { account, issuers, methods }: CaaPolicy): boolean {
  const [whole, issuer, rest = ''] = VALUE.exec(value) ?? [];
  if (whole === undefined) throw malformed(value);
  if (issuer === undefined) return false;
  if (!issuers.includes(issuer.toLowerCase()))
    throw new DstackError(
      'CAA_ISSUER',
      `a CAA record lets ${issuer.slice(0, 100)} issue, which is not the network's authority`,
    );
  const parameters = parametersOf(rest, value);
  const [uris, lists] = ['accounturi', 'validationmethods'].map((name) =>
    parameters.filter(([tag]) => tag === name).map(([, text]) => text),
  ) as [string[], string[]];
  // More than one: the authority takes none for the account (RFC 8657, section 3).
  if (uris.length !== 1 || uris[0] !== account)
    throw new DstackError('CAA_ACCOUNT', `a CAA record does not bind ${issuer} to the account ${account}`);
  const named = lists.flatMap((list) => list.split(','));
  if (lists.length !== 1 || named.some((method) => !methods.includes(method)))
    throw new DstackError(
      'CAA_METHODS',
      `a CAA record lets ${issuer} validate otherwise than by ${methods.join(', ')}`,
    );
  return true;
}

function parametersOf(text: string, value: string): [string, string][] {
  if (text.trim() === '') return [];
  return text.split(';').map((part) => {
    const [, tag, parameter] = PARAMETER.exec(part) ?? [];
    if (tag === undefined || parameter === undefined) throw malformed(value);
    return [tag, parameter];
  });
}

const malformed = (value: string): DstackError =>
  new DstackError('CAA_MALFORMED', `a CAA record cannot be read: ${JSON.stringify(value.slice(0, 200))}`);
