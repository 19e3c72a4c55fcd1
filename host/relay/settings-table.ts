/** Every setting of a host: its form in words, how its text is parsed, and which values are valid. What they are for is in host.env.example. */
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ValidatorsSchema } from '../../lib/protocol/network-config.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { Address0x, HexOf, Strict } from '../../lib/protocol/schema.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

interface Setting<T extends TSchema> {
  schema: T;
  /** What it is, or each item of it, for the sentence that refuses a value. */
  is: string;
  parse(text: string): unknown;
  /** The text that is used when it is absent. */
  fallback: string | undefined;
  /** Whether what it is set to is not to be shown: endpoints' URLs often have a key in their path. */
  isPrivate?: boolean;
}

function setting<T extends TSchema>(
  schema: T,
  is: string,
  parse: (text: string) => unknown,
  fallback?: string,
): Setting<T> {
  return { schema, is, parse, fallback };
}

const whole = (minimum: number, maximum: number, fallback?: string) =>
  setting(
    Type.Integer({ minimum, maximum }),
    `a whole number from ${minimum} to ${maximum}`,
    number,
    fallback,
  );
const decimal = (minimum: number, maximum: number, fallback: string) =>
  setting(
    Type.Number({ minimum, maximum }),
    `a number from ${minimum} to ${maximum}, such as ${fallback}`,
    number,
    fallback,
  );
const path = () =>
  setting(Type.String({ minLength: 1, maxLength: 4096 }), 'a path of 4096 characters at most', text);
const port = (fallback?: string) => whole(1, 65535, fallback);

/** One: two of them, with a comma or a semicolon between, would be a host of that name. */
const Url = Type.String({ pattern: '^https?://[^\\s/,;]+(/[^\\s]*)?$', maxLength: 500 });
/** No user, which is not sent; not the address that listens on all; not one of the routes below it. */
const PeerUrl = Type.String({
  pattern: '^https?://(?!0\\.0\\.0\\.0(:|/|$)|\\[::\\](:|/|$))[^\\s/?#@,;]+(?!/(.*/)?v1(/|$))(/[^\\s?#]*)?$',
  maxLength: 500,
});
const URL_IS = 'an http or https URL, such as http://127.0.0.1:8545';
const SiteUrl = Type.String({ pattern: '^https://[^\\s/?#@]+$', maxLength: 300 });
const Listen = Strict({
  host: Type.String({ minLength: 1, maxLength: 255 }),
  port: Type.Integer({ minimum: 0, maximum: 65535 }),
});
/** With its key: nobody else is taken for it. */
const RecordsPeer = Strict({
  key: Type.Optional(HexOf(32)),
  host: Type.String({ minLength: 1, maxLength: 255 }),
  port: Type.Integer({ minimum: 1, maximum: 65535 }),
});
const LISTEN_IS = 'an address and a port, such as 127.0.0.1:7610 or [::1]:7610';
const oneOf = <const T extends string>(values: readonly T[], fallback: string) =>
  setting(Type.Enum([...values]), `one of ${values.join(', ')}`, text, fallback);

/** Intel's Provisioning Certification Service. */
const INTEL_PCS = 'https://api.trustedservices.intel.com';

export const settings = {
  DSTACK_RPC_URL: { ...setting(Url, URL_IS, url), isPrivate: true },
  DSTACK_CHAIN_ID: whole(1, Number.MAX_SAFE_INTEGER),
  DSTACK_CONTRACT: setting(Address0x, 'an address: 0x and 40 hex digits', text),
  DSTACK_CONFIRMATIONS: whole(0, 1000, '2'),
  DSTACK_POLL_MS: whole(50, 60_000, '1000'),
  DSTACK_GAS_KEY_FILE: path(),
  DSTACK_MAX_FEE_GWEI: decimal(0.000000001, 100_000, '100'),
  DSTACK_FEE_BUMP_SECONDS: whole(1, 3600, '45'),
  DSTACK_LOW_BALANCE_ETH: decimal(0, 1000, '0.01'),
  DSTACK_NODE_URL: setting(Url, URL_IS, url, `http://127.0.0.1:${guestPorts.replicator}`),
  DSTACK_SITE_URL: setting(
    SiteUrl,
    'an https URL of a host, without a path, such as https://127.0.0.1:8443',
    url,
  ),
  DSTACK_STATE_DIR: path(),
  DSTACK_GOSSIP_LISTEN: setting(Listen, LISTEN_IS, listen, '127.0.0.1:7610'),
  DSTACK_GOSSIP_PEERS: setting(
    Type.Array(PeerUrl, { maxItems: 64, uniqueItems: true }),
    'an http or https URL of a relay, without a user and a route, such as http://relay.example:7610',
    urls,
    ' ',
  ),
  DSTACK_RECORDS_LISTEN: setting(Listen, LISTEN_IS, listen),
  DSTACK_RECORDS_PEERS: setting(
    Type.Array(RecordsPeer, { maxItems: 64, uniqueItems: true }),
    'an address and a port, after the key of the relay there and an @ if it is known, such as relay.example:7612',
    recordsPeers,
    ' ',
  ),
  DSTACK_CALLDATA_AFTER: whole(0, 100_000),
  DSTACK_ADMIN_LISTEN: setting(Listen, LISTEN_IS, listen, '127.0.0.1:7611'),
  DSTACK_PCS_URL: {
    ...setting(Type.Union([Url, Type.Literal('none')]), `${URL_IS}, or none`, url, INTEL_PCS),
    isPrivate: true,
  },
  DSTACK_PCS_ROOT_CRL_URL: setting(Url, URL_IS, url),
  DSTACK_PCS_UPDATE: oneOf(['standard', 'early'], 'standard'),
  DSTACK_COLLATERAL_DIR: path(),
  DSTACK_FURTHER_NETWORKS: setting(
    Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), { maxItems: 32, uniqueItems: true }),
    'a path of 4096 characters at most',
    list,
    ' ',
  ),
  DSTACK_APP_FILES: oneOf(['share', 'serve', 'none'], 'share'),
  DSTACK_LOG_LEVEL: oneOf(['debug', 'info', 'warn', 'error', 'silent'], 'info'),
  DSTACK_VM_IMAGE_DIR: path(),
  DSTACK_VM_VOLUME_DIR: path(),
  DSTACK_VM_STATE_DIR: path(),
  DSTACK_VM_PLATFORM_FILE: path(),
  DSTACK_VM_CPUS: whole(1, 256),
  DSTACK_VM_MEMORY_MIB: whole(512, 1024 * 1024),
  DSTACK_VM_NODE_PORT: port(String(guestPorts.replicator)),
  DSTACK_VM_TLS_PORT: port('8443'),
  DSTACK_VM_HTTP_PORT: port('8080'),
  DSTACK_VM_STORE_PORT: port(),
  DSTACK_VM_VISITORS_LISTEN: setting(Listen, LISTEN_IS, listen),
  DSTACK_VM_VALIDATORS: setting(
    ValidatorsSchema,
    "a chain's id, an IPv4 address and a port, such as chain-1=10.0.2.2:26659",
    validators,
  ),
  DSTACK_VM_NETWORK: oneOf(['own', 'shared'], 'shared'),
  DSTACK_VM_LOOPBACK_PORTS: setting(
    Type.Array(Type.Integer({ minimum: 1, maximum: 65535 }), { maxItems: 32, uniqueItems: true }),
    'a port from 1 to 65535',
    numbers,
    ' ',
  ),
  DSTACK_VM_DATA_DISK: path(),
  DSTACK_VM_DATA_DISK_MIB: whole(64, 64 * 1024 * 1024),
} as const;
export type Name = keyof typeof settings;
export type ValueOf<N extends Name> = Static<(typeof settings)[N]['schema']>;

/** An empty value counts as absent, as in a shell. */
export function isSet(environment: Environment, name: Name): boolean {
  return (environment[name] ?? '') !== '';
}

/** @throws SETTINGS with one sentence: which setting, what is wrong with it, and what it is */
export function take<N extends Name>(environment: Environment, name: N): ValueOf<N> {
  const { schema, parse, fallback, is }: Setting<TSchema> = settings[name];
  const given = environment[name] || fallback;
  if (given === undefined) throw refused(`${name} is not set: it is ${is}`);
  const value = parse(given);
  if (!Value.Check(schema, value)) throw refused(wrong(name, given, value));
  return value as ValueOf<N>;
}

const refused = (sentence: string) =>
  new DstackError('SETTINGS', `${sentence}; host.env.example says what it is for`);

function wrong(name: Name, given: string, value: unknown): string {
  const { schema, is, isPrivate }: Setting<TSchema> = settings[name];
  const { items, maxItems } = schema as { items?: TSchema; maxItems?: number };
  if (items === undefined || !Array.isArray(value)) {
    return `${name} can't be ${isPrivate ? 'what it is set to' : quoted(given)}: it is ${is}`;
  }
  const written = list(given);
  const bad = value.findIndex((item) => !Value.Check(items, item));
  if (bad !== -1) return `${name} can't have ${quoted(written[bad]!)} in it: each item is ${is}`;
  const twice = written.find((item, at) => written.indexOf(item) !== at);
  if (twice !== undefined) return `${name} has ${quoted(twice)} twice: once is enough`;
  return `${name} has ${value.length} items, more than ${maxItems}: leave some of them out`;
}

const quoted = (given: string): string =>
  JSON.stringify(given.length > 80 ? `${given.slice(0, 80)}…` : given);

/** The setting that a misspelt name was probably meant to be: one or two letters away. */
export function nearest(name: string): string | undefined {
  const known = Object.keys(settings).map((other) => ({ other, apart: distance(name, other) }));
  const [best] = known.toSorted((a, b) => a.apart - b.apart);
  return best !== undefined && best.apart <= 2 ? best.other : undefined;
}

/** Letters that must be changed, added or left out (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [index, letter] of [...a].entries()) {
    const next = [index + 1];
    for (let at = 1; at <= b.length; at += 1) {
      const other = letter === b[at - 1] ? 0 : 1;
      next.push(Math.min(row[at]! + 1, next[at - 1]! + 1, row[at - 1]! + other));
    }
    row = next;
  }
  return row[b.length]!;
}

function text(value: string): string {
  return value;
}

/** Undefined for what is none. */
function url(value: string): string | undefined {
  return value === 'none' || URL.canParse(value) ? value.replace(/\/+$/, '') : undefined;
}

function numbers(value: string): unknown[] {
  return list(value).map(number);
}

function number(value: string): unknown {
  return /^\d+(\.\d+)?$/.test(value) ? Number(value) : value;
}

function list(value: string): string[] {
  return value
    .split(',')
    .map((item) => item.trim().replace(/\/+$/, ''))
    .filter((item) => item !== '');
}

function urls(value: string): unknown[] {
  return list(value).map(url);
}

/** `127.0.0.1:7610`, `[::1]:7610` */
function listen(value: string): unknown {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})$/.exec(value);
  return match === null ? value : { host: match[1] ?? match[2], port: Number(match[3]) };
}

/** `relay.example:7612`, `KEY@[::1]:7612` */
function recordsPeers(value: string): unknown[] {
  return list(value).map((item) => {
    const match = /^(?:([^@]*)@)?(.*)$/.exec(item)!;
    const place = listen(match[2]!);
    if (typeof place !== 'object' || place === null) return item;
    return { ...(match[1] !== undefined && { key: match[1] }), ...place };
  });
}

/** `chain-1=10.0.2.2:26659,chain-2=192.0.2.1:26659` */
function validators(value: string): unknown[] {
  return list(value).map((item) => {
    const match = /^([^=]+)=([^:]+):(\d{1,5})$/.exec(item);
    return match === null ? item : { chain: match[1], address: match[2], port: Number(match[3]) };
  });
}
