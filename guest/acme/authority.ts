/**
 * One order at the authority (RFC 8555), from the account to the chain. acme-client knows the protocol: it is loaded when there is
 * something to order, since that takes most of a second. What it hands back is the authority's word and checked here; what
 * the authority issues is judged by whoever asked.
 */
import type { Client } from 'acme-client';
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { encodePemBlock } from '../../lib/attestation/bytes/pem.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { DomainName } from '../../lib/protocol/network-config.ts';
import { check } from '../../lib/protocol/schema.ts';
import type { AccountKey } from './account-key.ts';
import { AcmeProblem, transport, words } from './transport.ts';

export interface AccountOptions {
  /** The directory's URL. */
  directory: string;
  contact?: readonly string[];
  key: AccountKey;
  /** PEM: by whom the authority's own TLS may be certified. */
  roots: readonly string[];
  signal?: AbortSignal;
}

/** The network's account with the authority. */
export interface Account {
  url: string;
  /** The names by which records of the DNS mean the authority. */
  issuers: string[];
}

export interface OrderOptions extends AccountOptions {
  profile?: string;
  names: readonly string[];
  /** PKCS #10, DER. */
  request: Uint8Array;
  /** Challenges that are used, in this order. */
  challenges: readonly string[];
  /** Makes the answer to a challenge visible; what it resolves to takes it away. */
  show(challenge: ShownChallenge): Promise<() => void>;
  /** Called once with the account, right before the authority is asked for an order. May throw to leave it. */
  before(account: Account): void | Promise<void>;
}

export interface ShownChallenge {
  type: string;
  domain: string;
  /** Token and thumbprint (RFC 8555, section 8.1); empty for a challenge without a token. */
  keyAuthorization: string;
}

/** A wrong nonce is no refusal, and some authorities take many of them for wrong. */
const NONCE_RETRIES = 40;
/** For all of an order. Milliseconds. */
const ORDERED_WITHIN = 300_000;
/** Between two looks at what the authority works on. Milliseconds. */
const LOOK_AGAIN = [250, 500, 1_000, 2_000, 4_000];
const MAX_POLLS = 60;

const Url = Type.String({ minLength: 1, maxLength: 1000 });
const Account = Type.Object({ url: Type.String({ minLength: 1, maxLength: 300 }) });
const Issuers = Type.Array(DomainName, { maxItems: 8 });
const Order = Type.Object({
  url: Url,
  status: Type.String({ maxLength: 20 }),
  authorizations: Type.Array(Url, { maxItems: 100 }),
  finalize: Url,
  certificate: Type.Optional(Url),
  error: Type.Optional(Type.Unknown()),
});
type Order = Static<typeof Order>;
const Challenge = Type.Object({
  type: Type.String({ maxLength: 40 }),
  url: Url,
  status: Type.String({ maxLength: 20 }),
  token: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{16,256}$', maxLength: 256 })),
  error: Type.Optional(Type.Unknown()),
});
const Authorization = Type.Object({
  url: Url,
  status: Type.String({ maxLength: 20 }),
  identifier: Type.Object({ type: Type.Literal('dns'), value: Type.String({ maxLength: 253 }) }),
  challenges: Type.Array(Challenge, { maxItems: 20 }),
});
type Authorization = Static<typeof Authorization>;

/**
 * The chain that the authority issued, PEM, not judged.
 * @throws ACME_REFUSED, ACME_UNREACHABLE, ACME_ORIGIN, ACME_ANSWER, ACME_CHALLENGE, ACME_INVALID, ACME_SLOW
 */
export async function orderCertificate(options: OrderOptions): Promise<string> {
  const signal = boundedBy(options.signal);
  const client = await openClient({ ...options, signal });
  await options.before(await accountOf(client, options));
  const order = await newOrder(client, options);
  const hidden: (() => void)[] = [];
  try {
    for (const url of order.authorizations) {
      await authorize(client, url, options, hidden);
    }
  } finally {
    for (const hide of hidden) hide();
  }
  const ready = await until(client, order, ['ready', 'valid'], signal);
  if (ready.status === 'ready') await finalize(client, ready, options.request);
  const done = await until(client, order, ['valid'], signal);
  const chain: unknown = await attempt(() => client.getCertificate(done as never));
  if (typeof chain !== 'string') throw malformed('a certificate that is no text');
  return chain;
}

/**
 * The network's account: made by the node that comes first, found by the others.
 * @throws ACME_REFUSED, ACME_UNREACHABLE, ACME_ORIGIN, ACME_ANSWER
 */
export async function openAccount(options: AccountOptions): Promise<Account> {
  return accountOf(await openClient({ ...options, signal: boundedBy(options.signal) }), options);
}

async function accountOf(client: Client, options: AccountOptions): Promise<Account> {
  const { url } = checked(Account, { url: await findAccount(client, options) }, 'an account');
  const { http } = client as unknown as { http: { getMetaField(name: string): Promise<unknown> } };
  const issuers = await attempt(() => http.getMetaField('caaIdentities'));
  return { url, issuers: Value.Check(Issuers, issuers) ? issuers : [] };
}

function boundedBy(signal: AbortSignal | undefined): AbortSignal {
  const within = AbortSignal.timeout(ORDERED_WITHIN);
  return signal === undefined ? within : AbortSignal.any([within, signal]);
}

async function openClient(options: AccountOptions & { signal: AbortSignal }): Promise<Client> {
  const { default: acme } = await import('acme-client');
  // What it throws by itself is not tried again by the client, which would wait for as long as the authority says.
  acme.axios.defaults.adapter = transport(options) as never;
  const client = new acme.Client({ directoryUrl: options.directory, accountKey: options.key.pem });
  (client as unknown as { http: { maxBadNonceRetries: number } }).http.maxBadNonceRetries = NONCE_RETRIES;
  return client;
}

async function findAccount(client: Client, { contact }: AccountOptions): Promise<string> {
  try {
    await attempt(() => client.createAccount({ onlyReturnExisting: true }));
  } catch (error) {
    if (!(error instanceof AcmeProblem) || error.type !== 'accountDoesNotExist') throw error;
    await makeAccount(client, contact);
  }
  return client.getAccountUrl();
}

async function makeAccount(client: Client, contact: AccountOptions['contact']): Promise<void> {
  const wanted = { termsOfServiceAgreed: true, ...(contact !== undefined && { contact: [...contact] }) };
  try {
    await attempt(() => client.createAccount(wanted));
  } catch (refused) {
    // Where another node was quicker, the client goes on to update the account, which some authorities refuse.
    await attempt(() => client.createAccount({ onlyReturnExisting: true })).catch(() => {
      throw refused;
    });
  }
}

async function newOrder(client: Client, { names, profile }: OrderOptions): Promise<Order> {
  const identifiers = names.map((value) => ({ type: 'dns', value }));
  // Profiles are draft-ietf-acme-profiles.
  const wanted = { identifiers, ...(profile !== undefined && { profile }) };
  return checked(Order, await attempt(() => client.createOrder(wanted)), 'an order');
}

/** An authority may give two nodes of one account the same order; who comes second finds it under way. */
async function finalize(client: Client, order: Order, request: Uint8Array): Promise<void> {
  try {
    await attempt(() => client.finalizeOrder(order as never, encodePemBlock('CERTIFICATE REQUEST', request)));
  } catch (error) {
    if (!(error instanceof AcmeProblem) || error.type !== 'orderNotReady') throw error;
  }
}

/** Answers one challenge of one authorization, and waits for the authority's verdict. */
async function authorize(
  client: Client,
  url: string,
  options: OrderOptions,
  hidden: (() => void)[],
): Promise<void> {
  const authorization = await authorizationAt(client, url);
  const domain = authorization.identifier.value;
  if (!options.names.includes(domain)) throw malformed(`an authorization for ${words(domain)}`);
  if (authorization.status === 'valid') return;
  const challenge = options.challenges
    .map((type) => authorization.challenges.find((each) => each.type === type))
    .find((each) => each !== undefined);
  if (challenge === undefined) {
    const offered = authorization.challenges.map(({ type }) => type).join(', ');
    throw new DstackError(
      'ACME_CHALLENGE',
      `the authority offers ${words(offered)} for ${domain}, and network.json names ${options.challenges.join(', ')}`,
    );
  }
  const keyAuthorization =
    challenge.token === undefined ? '' : `${challenge.token}.${options.key.thumbprint}`;
  hidden.push(await options.show({ type: challenge.type, domain, keyAuthorization }));
  await attempt(() => client.completeChallenge(challenge as never));
  await poll(options.signal, async () => {
    const { status, challenges } = await authorizationAt(client, url);
    if (status === 'valid') return true;
    if (status === 'pending') return undefined;
    const detail = challenges.map(({ error }) => detailOf(error)).find((text) => text !== undefined);
    throw new DstackError(
      'ACME_INVALID',
      `the authority did not find ${challenge.type} of ${domain} answered: ${words(detail ?? status)}`,
    );
  });
}

async function authorizationAt(client: Client, url: string): Promise<Authorization> {
  const [found] = await attempt(() => client.getAuthorizations({ authorizations: [url] } as never));
  return checked(Authorization, found, 'an authorization');
}

async function until(
  client: Client,
  order: Order,
  wanted: readonly string[],
  signal: AbortSignal,
): Promise<Order> {
  return poll(signal, async () => {
    const now = checked(Order, await attempt(() => client.getOrder(order as never)), 'an order');
    if (wanted.includes(now.status)) return now;
    if (now.status !== 'invalid') return undefined;
    throw new DstackError(
      'ACME_INVALID',
      `the authority gave the order up: ${words(detailOf(now.error) ?? '')}`,
    );
  });
}

/** @throws ACME_SLOW when it takes too many looks */
async function poll<T>(signal: AbortSignal | undefined, look: () => Promise<T | undefined>): Promise<T> {
  for (let looks = 0; looks < MAX_POLLS && signal?.aborted !== true; looks++) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN[looks] ?? LOOK_AGAIN.at(-1)));
  }
  throw new DstackError('ACME_SLOW', 'the authority is still at work on the order; it is left');
}

/** What acme-client throws by itself is about an answer that lacks something. */
async function attempt<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    throw new DstackError(
      'ACME_ANSWER',
      `the authority's answer is of no use: ${words(String((cause as Error).message))}`,
      {
        cause,
      },
    );
  }
}

const checked = <T extends TSchema>(schema: T, value: unknown, what: string): Static<T> =>
  check(schema, value, 'ACME_ANSWER', `the authority's answer, ${what},`);

const malformed = (what: string): DstackError =>
  new DstackError('ACME_ANSWER', `the authority answered with ${what}`);

/** `detail` of a problem document inside an object. */
function detailOf(error: unknown): string | undefined {
  const detail = (error as { detail?: unknown } | null | undefined)?.detail;
  return typeof detail === 'string' ? detail : undefined;
}
