/**
 * The signer's configuration, TOML: what it signs for, where it dials and where its records are. The names are tmkms-light's where
 * both have the same thing; a field of tmkms that has no meaning here is refused with the reason.
 */
import { isIPv6 } from 'node:net';
import { parse, type TomlError } from 'smol-toml';
import { type Static, type TSchema, Type } from 'typebox';
import { bech32 } from '../../lib/cometbft/bech32.ts';
import { PROTOCOL_VERSIONS, type ProtocolVersion } from '../../lib/cometbft/consensus.ts';
import { requireEndpoint } from '../../lib/etcd/client.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check, OneOf, Strict } from '../../lib/protocol/schema.ts';
import { ChainId } from '../../lib/protocol/signer-part.ts';

const MAX_BYTES = 256 * 1024;
/** Of tables and lists within each other; there are four in what is known. */
const MAX_DEPTH = 16;
/** unix(7): `sun_path`, with a zero behind it. */
const SOCKET_PATH_BYTES = 107;
const Path = Type.String({ minLength: 1, maxLength: 4096 });

const ConfigSchema = Strict({
  store: Strict({
    endpoints: Type.Array(Type.String({ maxLength: 300 }), { minItems: 1, maxItems: 16 }),
    ca: Type.Optional(Path),
    certificate: Type.Optional(Path),
    key: Type.Optional(Path),
    accept_host_rollback: Type.Optional(Type.Boolean()),
  }),
  chain: Type.Array(
    Strict({
      id: ChainId,
      protocol_version: OneOf(PROTOCOL_VERSIONS),
      key: Type.Optional(OneOf(['network', 'imported'] as const)),
      sign_bytes: Type.Optional(Type.Boolean()),
      bech32_prefix: Type.Optional(Type.String({ maxLength: 83 })),
    }),
    { minItems: 1, maxItems: 64 },
  ),
  validator: Type.Array(Strict({ chain_id: ChainId, address: Type.String({ maxLength: 400 }) }), {
    maxItems: 256,
  }),
  status: Type.Optional(Strict({ listen: Type.String({ maxLength: 300 }) })),
  backup: Type.Optional(
    Strict({ recipients: Type.Array(Type.String({ maxLength: 4000 }), { maxItems: 16 }) }),
  ),
});

/** Fields of tmkms and tmkms-light, and why they are not here. */
const FOREIGN: Readonly<Record<string, string>> = {
  addr: 'it is called address',
  state_file: 'what was signed is in the store, and in no file',
  state_file_path: 'what was signed is in the store, and in no file',
  state_hook: 'what was signed is in the store: `dstack signer state import` takes an earlier height',
  providers: 'keys are derived from the secret of the network, or imported with `dstack signer import`',
  secret_key: "the connection's key is derived from the secret of the network",
  id_key_path: "the connection's key is derived from the secret of the network",
  sealed_consensus_key_path:
    'keys are derived from the secret of the network, or imported with `dstack signer import`',
  sealed_id_key_path: "the connection's key is derived from the secret of the network",
  key_format: 'it is called bech32_prefix',
  reconnect: 'the signer always dials again',
  max_height: 'a signer that is to stop at a height is stopped',
  timeout: 'answers have 3 s, since nodes wait 5 s',
  protocol: 'it is called protocol_version',
  enclave_path: 'there is no enclave: the machine is attested as a whole',
  aws_region: 'a key is wrapped by a cloud with `dstack signer wrap`',
  credentials: 'a key is wrapped by a cloud with `dstack signer wrap`',
};

/** Where a node listens for its signer. */
export type ValidatorAddress =
  | { readonly kind: 'unix'; readonly text: string; readonly path: string; readonly nodeId?: undefined }
  | {
      readonly kind: 'tcp';
      readonly text: string;
      readonly host: string;
      readonly port: number;
      readonly nodeId?: string;
    };

export interface ChainConfig {
  readonly id: string;
  readonly protocol: ProtocolVersion;
  readonly key: 'network' | 'imported';
  readonly signsBytes: boolean;
  readonly bech32Prefix: string;
}

export interface SignerConfig {
  readonly store: Static<typeof ConfigSchema>['store'];
  readonly acceptHostRollback: boolean;
  readonly chains: readonly ChainConfig[];
  readonly validators: readonly { readonly chainId: string; readonly address: ValidatorAddress }[];
  /** `unix:///path` or `tcp://host:port`. */
  readonly statusListen: string | undefined;
  /** Whom backups are encrypted to. */
  readonly recipients: readonly string[];
}

/** @throws SIGNER_CONFIG */
export function parseConfig(text: string): SignerConfig {
  if (Buffer.byteLength(text) > MAX_BYTES) throw wrong(`it has more than ${MAX_BYTES} bytes`);
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    const { message, line } = cause as TomlError;
    const [first = ''] = message.replace('Invalid TOML document: ', '').split('\n');
    throw new DstackError('SIGNER_CONFIG', `the configuration is no TOML: line ${line}: ${first}`, { cause });
  }
  refuseForeign(value, '');
  refuseUnknown(ConfigSchema, value, '');
  const config = check(ConfigSchema, value, 'SIGNER_CONFIG', 'the configuration');
  const chains = config.chain.map((chain) => ({
    id: chain.id,
    protocol: chain.protocol_version,
    key: chain.key ?? 'network',
    signsBytes: chain.sign_bytes ?? false,
    bech32Prefix: chain.bech32_prefix ?? 'cosmosvalconspub',
  }));
  const ids = chains.map(({ id }) => id);
  const twice = ids.find((id, at) => ids.indexOf(id) !== at);
  if (twice !== undefined) throw wrong(`chain ${twice} is there twice`);
  for (const { signsBytes, id, protocol, bech32Prefix } of chains) {
    inConfig(`chain ${id}: bech32_prefix`, () => bech32(bech32Prefix, new Uint8Array()));
    if (signsBytes && protocol !== 'v1')
      throw wrong(`chain ${id}: sign_bytes is of protocol_version v1 only`);
  }
  const validators = config.validator.map(({ chain_id: chainId, address }) => {
    if (!ids.includes(chainId)) throw wrong(`a validator is of chain ${chainId}, which is not there`);
    return { chainId, address: parseAddress(address) };
  });
  const places = validators.map(({ address }) => placeText(address));
  const again = places.find((place, at) => places.indexOf(place) !== at);
  // A node serves one of two connections, and says nothing to the other.
  if (again !== undefined) throw wrong(`two validators are at ${again}, and a node serves one connection`);
  requireStore(config.store);
  if (config.status !== undefined) placeOf(config.status.listen);
  return {
    store: config.store,
    acceptHostRollback: config.store.accept_host_rollback ?? false,
    chains,
    validators,
    statusListen: config.status?.listen,
    recipients: config.backup?.recipients ?? [],
  };
}

/** What is named has to be used: with a certificate that counts for nothing, whoever is on the way could write the records. */
function requireStore({ endpoints, ca, certificate, key }: Static<typeof ConfigSchema>['store']): void {
  for (const endpoint of endpoints) inConfig('store.endpoints', () => requireEndpoint(endpoint));
  if ((certificate === undefined) !== (key === undefined))
    throw wrong('store.certificate and store.key go together');
  if (ca === undefined) {
    if (certificate !== undefined) throw wrong('store.certificate needs store.ca beside it');
    return;
  }
  const plain = endpoints.find((endpoint) => !endpoint.startsWith('https://'));
  if (plain !== undefined)
    throw wrong(`store.ca, certificate and key are for https, and store.endpoints has ${plain}`);
}

function inConfig(where: string, act: () => unknown): void {
  try {
    act();
  } catch (cause) {
    throw new DstackError('SIGNER_CONFIG', `${where}: ${(cause as Error).message}`, { cause });
  }
}

function refuseForeign(value: unknown, where: string, depth = 0): void {
  if (typeof value !== 'object' || value === null) return;
  // A dotted key is nested as deep as it is long, which no parser bounds.
  if (depth > MAX_DEPTH) throw wrong(`it is nested deeper than ${MAX_DEPTH} tables`);
  for (const [name, inner] of Object.entries(value)) {
    const why = Object.hasOwn(FOREIGN, name) && !Array.isArray(value) ? FOREIGN[name] : undefined;
    if (why !== undefined) throw wrong(`${where}${name}: ${why}`);
    refuseForeign(inner, Array.isArray(value) ? where : `${where}${name}.`, depth + 1);
  }
}

/** A name that is mistyped is told before what is missing because of it. */
function refuseUnknown(schema: TSchema, value: unknown, where: string): void {
  const { properties, items } = schema as { properties?: Record<string, TSchema>; items?: TSchema };
  if (Array.isArray(value) && items !== undefined) for (const one of value) refuseUnknown(items, one, where);
  if (typeof value !== 'object' || value === null || Array.isArray(value) || properties === undefined) return;
  for (const [name, inner] of Object.entries(value)) {
    const known = Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (known === undefined)
      throw wrong(`${where}${name} is no field; there are ${Object.keys(properties).join(', ')}`);
    refuseUnknown(known, inner, `${where}${name}.`);
  }
}

/** `unix:///path`, or `tcp://127.0.0.1:port`: for `listen`, and for whoever asks. @throws SIGNER_CONFIG */
export function placeOf(
  listen: string,
): { readonly path: string } | { readonly host: string; readonly port: number } {
  const path = /^unix:\/\/(\/.+)$/.exec(listen)?.[1];
  if (path !== undefined) return { path };
  const [, host, port] = /^tcp:\/\/(127\.0\.0\.1|\[::1\]):(\d{1,5})$/.exec(listen) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65535)
    throw wrong(`status.listen: ${listen} is not unix:///path or tcp://127.0.0.1:port`);
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) };
}

/** However it is written. */
const placeText = (address: ValidatorAddress): string =>
  address.kind === 'unix' ? address.path : `${address.host.toLowerCase()}:${address.port}`;

/** `tcp://[node id@]host:port` or `unix:///path`. @throws SIGNER_CONFIG */
export function parseAddress(text: string): ValidatorAddress {
  const path = /^unix:\/\/(\/[^\0]+)$/.exec(text)?.[1];
  if (path !== undefined && Buffer.byteLength(path) > SOCKET_PATH_BYTES)
    throw wrong(`the path of a unix socket has ${SOCKET_PATH_BYTES} bytes at most, and ${path} has more`);
  if (path !== undefined) return { kind: 'unix', text, path };
  const tcp = /^tcp:\/\/(?:([0-9a-fA-F]{40})@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})$/.exec(text);
  const port = Number(tcp?.[3]);
  const isBracketed = tcp?.[2]?.startsWith('[') === true;
  if (tcp === null || port < 1 || port > 65535 || (isBracketed && !isIPv6(tcp[2]!.slice(1, -1)))) {
    throw wrong(
      `${JSON.stringify(text)} is no address: tcp://host:port, tcp://NODE_ID@host:port or unix:///path`,
    );
  }
  const nodeId = tcp[1]?.toLowerCase();
  const host = tcp[2]!.replace(/^\[|\]$/g, '');
  return { kind: 'tcp', text, host, port, ...(nodeId !== undefined && { nodeId }) };
}

function wrong(why: string): DstackError {
  return new DstackError('SIGNER_CONFIG', why);
}
