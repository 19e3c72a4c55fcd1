/**
 * App manifests: which containers an app consists of, each named by the digest of its image, and what each of them may use.
 *
 * A manifest's bytes are canonical JSON (RFC 8785), so the contract can name one by the SHA-256 of its bytes and no two
 * readings of the same hash exist: bytes that are not exactly their own canonical form are refused, which also refuses
 * duplicate keys, byte-order marks and stray white space. Whether it was rolled out is for the reader of the chain to say.
 */
import { domainToASCII, domainToUnicode } from 'node:url';
import canonicalize from 'canonicalize';
import { type Static, type TSchema, Type } from 'typebox';
import { bytesEqual, sha256, utf8 } from './encoding.ts';
import { DstackError } from './errors.ts';
import { DomainName } from './network-config.ts';
import { AppName, check, HexOf, SecretName, Strict } from './schema.ts';
import { assertSigner, SignerSchema, secretsOfSigner } from './signer-part.ts';

/** Where a container sees its app's folder of the data disk. */
export const DATA_PATH = '/mnt/encrypted_data';
/** Where a container sees its secrets, each as a file. */
export const SECRETS_PATH = '/run/secrets';
/** Where a container sees its app's folder of the host volume. */
export const HOST_VOLUME_PATH = '/mnt/host_volume';

/** The largest manifest that is read, in bytes. */
export const MANIFEST_MAX_BYTES = 64 * 1024;

/** No NUL: the kernel would cut an argument or a variable there. */
const Text = (maxLength: number) => Type.String({ maxLength, pattern: '^[^\\u0000]*$' });

const MiB = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });

const PlainPath = Type.String({ pattern: '^(/[A-Za-z0-9._-]{1,64}){1,8}$' });
const Port = Type.Integer({ minimum: 1, maximum: 65535 });

/** The network's website leads here; at most one container of an app. */
const WebsiteSchema = Strict({ port: Port });

/** A website of the app's own. */
const SiteSchema = Strict({
  /** In lower case, as the DNS has it: `isPlainDomain`. */
  domain: DomainName,
  port: Port,
  /** What the container speaks there: HTTP/1.1, or HTTP/2 without TLS (RFC 9113, section 3.3). */
  protocol: Type.Union([Type.Literal('http1'), Type.Literal('h2c')]),
});

/** What a container may ask of its node (guest/agent). */
export const AGENT_API = ['info', 'key', 'attest', 'sign', 'quote', 'store', 'chain'] as const;
export type AgentApi = (typeof AGENT_API)[number];
/** All that there was when version 1 was: what it may ask does not grow. */
const FIRST_API: readonly AgentApi[] = ['info', 'key', 'attest'];

/** Where a container that may ask its node anything has the agent's socket: a folder, to read only. */
export const AGENT_PATH = '/var/run/dstack';

/** What both versions have. */
const common = {
  /** Unique within the app. */
  name: AppName,
  /** SHA-256 of the image's config blob: the image id that podman and docker show. */
  image: Type.String({
    pattern: '^sha256:[0-9a-f]{64}$',
    maxLength: 71,
    description: 'sha256: and 64 hex digits in lower case',
  }),
  env: Type.Optional(
    Type.Record(Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,127}$' }), Text(4096), {
      additionalProperties: false,
      maxProperties: 64,
    }),
  ),
  /** Replaces the image's command (not its entry point). */
  command: Type.Optional(Type.Array(Text(4096), { minItems: 1, maxItems: 64 })),
};

export const ContainerV1Schema = Strict({ ...common, http: Type.Optional(WebsiteSchema) });

const Seconds = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });

/** How to find out that a container is well: by one of two ways. */
const HealthSchema = Strict({
  /** A path on the first port of the container's `http`, answered with a status from 200 to 399. */
  http: Type.Optional(
    Type.String({
      pattern: '^/[!-~]{0,255}$',
      maxLength: 256,
      description: 'a path that begins with /, without spaces',
    }),
  ),
  /** A command in the container that exits with 0. */
  exec: Type.Optional(Type.Array(Text(4096), { minItems: 1, maxItems: 64 })),
  /** Between checks of a container that is up. */
  intervalSeconds: Type.Optional(Seconds(1, 3600)),
  timeoutSeconds: Type.Optional(Seconds(1, 60)),
  /** So many failures in a row, and it is started again. */
  retries: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  /** How long a new one may take to become healthy. */
  startSeconds: Type.Optional(Seconds(1, 600)),
});

/** A field is here once nodes enforce it, and not before: an unknown one is refused, so none is ever silently without effect. */
export const ContainerV2Schema = Strict({
  ...common,
  /** What visitors are led to: the network's website, or websites of the app's own, by their domains. */
  http: Type.Optional(Type.Union([WebsiteSchema, Type.Array(SiteSchema, { minItems: 1, maxItems: 8 })])),
  /** Where it answers what hosts ask the app by their node's port: docs/framework.md. One container of an app, by HTTP/1.1. */
  requests: Type.Optional(Strict({ port: Type.Integer({ minimum: 1, maximum: 65_535 }) })),
  /** What it may ask of its node. Any word fits here, so that one that has no meaning is refused by its name. */
  api: Type.Optional(
    Type.Array(
      Type.String({ pattern: '^[a-z]{1,32}$', maxLength: 32, description: 'one word in lower case' }),
      { maxItems: 8, uniqueItems: true },
    ),
  ),
  /** The most memory, with its tmpfs and /dev/shm; no swap on top. */
  memoryMiB: Type.Optional(MiB(8, 1024 * 1024)),
  /** The most processes and threads. */
  pids: Type.Optional(Type.Integer({ minimum: 1, maximum: 32_768 })),
  /** The most processor time, in percent of one processor; without it, whatever the others leave. */
  cpuPercent: Type.Optional(Type.Integer({ minimum: 1, maximum: 51_200 })),
  /** Ids, not names: a name's meaning would be a file of the image. Without it, the image's own user. */
  user: Type.Optional(
    Type.String({
      pattern: '^(0|[1-9]\\d{0,4})(:(0|[1-9]\\d{0,4}))?$',
      maxLength: 11,
      description: 'uid or uid:gid, in digits',
    }),
  ),
  /** Folders in memory that it may write to, by path, each with its size; everything else of its root is read-only. */
  tmpfs: Type.Optional(
    Type.Record(PlainPath, MiB(1, 65_536), { additionalProperties: false, maxProperties: 16 }),
  ),
  /** The size of /dev/shm. */
  shmMiB: Type.Optional(MiB(1, 65_536)),
  /** Its view of the app's folder on the data disk, /mnt/encrypted_data: none, to read, or to write. */
  data: Type.Optional(Type.Union([Type.Literal('none'), Type.Literal('ro'), Type.Literal('rw')])),
  /** Folders of the data disk that are its own, by path, each with its size. */
  volumes: Type.Optional(
    Type.Record(PlainPath, MiB(1, 1024 * 1024 * 1024), { additionalProperties: false, maxProperties: 16 }),
  ),
  /** Its view of the app's folder of the host volume, /mnt/host_volume: none, or to read. */
  hostVolume: Type.Optional(Type.Union([Type.Literal('none'), Type.Literal('ro')])),
  /** What it reaches besides the agent and its own app's containers: nothing, or public addresses of the internet. */
  egress: Type.Optional(Type.Union([Type.Literal('none'), Type.Literal('internet')])),
  /** By name, those of the app's secrets that it gets, below /run/secrets. */
  secrets: Type.Optional(Type.Array(SecretName, { maxItems: 64 })),
  /** How long it may take to end by itself after SIGTERM. */
  stopSeconds: Type.Optional(Seconds(0, 60)),
  health: Type.Optional(HealthSchema),
  /** Whether a new version starts next to the old one, or once it has stopped. `beside` is for one that writes to no disk. */
  update: Type.Optional(Type.Union([Type.Literal('beside'), Type.Literal('replace')])),
  /** Whether it is started again when it ends: always, after an exit code other than 0, or not. */
  restart: Type.Optional(
    Type.Union([Type.Literal('always'), Type.Literal('on-failure'), Type.Literal('no')]),
  ),
  /** Whether the node may show its last lines to anybody when it does not come up, ends or is not well. */
  logs: Type.Optional(Type.Union([Type.Literal('private'), Type.Literal('public')])),
});

/** A secret of the app: `envelope` is the SHA-256 of what the owner sealed (app-secrets.ts). */
const SecretSchema = Strict({ name: SecretName, envelope: HexOf(32) });
export type AppSecret = Static<typeof SecretSchema>;

const manifestOf = <V extends number, C extends TSchema>(version: V, container: C, minItems: number) => ({
  version: Type.Literal(version),
  app: AppName,
  containers: Type.Array(container, { minItems, maxItems: 8 }),
});
const schemas = {
  1: Strict(manifestOf(1, ContainerV1Schema, 1)),
  2: Strict({
    // None beside a signer: `assertContainers`.
    ...manifestOf(2, ContainerV2Schema, 0),
    secrets: Type.Optional(Type.Array(SecretSchema, { maxItems: 64 })),
    /** A validator's remote signer: docs/signer.md. */
    signer: Type.Optional(SignerSchema),
  }),
} as const;

export type ManifestV1 = Static<(typeof schemas)[1]>;
export type ManifestV2 = Static<(typeof schemas)[2]>;
export type Manifest = ManifestV1 | ManifestV2;

/** What visitors are led to. Without a domain, it is the network's website. */
export interface SitePlan {
  readonly domain: string | undefined;
  readonly port: number;
  readonly protocol: 'http1' | 'h2c';
}

/** A container as it is to be run, whatever the manifest's version: what a field left out means is filled in. */
export interface ContainerPlan {
  readonly name: string;
  /** 64 hex digits. */
  readonly image: string;
  readonly env: Readonly<Record<string, string>>;
  readonly command: readonly string[] | undefined;
  readonly http: readonly SitePlan[];
  /** Where hosts ask it; undefined for nowhere. */
  readonly requests: { readonly port: number } | undefined;
  readonly api: readonly AgentApi[];
  readonly memoryMiB: number;
  readonly pids: number;
  readonly cpuPercent: number | undefined;
  readonly user: string | undefined;
  readonly tmpfs: Readonly<Record<string, number>>;
  readonly shmMiB: number;
  readonly data: 'none' | 'ro' | 'rw';
  readonly volumes: Readonly<Record<string, number>>;
  readonly hostVolume: 'none' | 'ro';
  readonly egress: 'none' | 'internet';
  readonly secrets: readonly AppSecret[];
  readonly stopSeconds: number;
  readonly health: Health | undefined;
  readonly update: 'beside' | 'replace';
  readonly restart: 'always' | 'on-failure' | 'no';
  readonly logs: 'private' | 'public';
}

type Asked = Static<typeof HealthSchema>;
/** One of `http` and `exec` is there. */
export type Health = Pick<Asked, 'http' | 'exec'> & Required<Omit<Asked, 'http' | 'exec'>>;

/** Enough for most; one that needs more says so in a manifest of version 2. */
const DEFAULTS = {
  memoryMiB: 512,
  pids: 256,
  tmpfs: { '/tmp': 64 },
  shmMiB: 64,
  volumes: {},
  hostVolume: 'none',
  stopSeconds: 3,
  update: 'replace',
  restart: 'always',
  logs: 'private',
} as const;
const HEALTH = { intervalSeconds: 30, timeoutSeconds: 5, retries: 3, startSeconds: 120 } as const;

/** A manifest's containers, in its order. */
export function plansOf(manifest: Manifest): readonly ContainerPlan[] {
  // Every container of version 1 writes to its app's folder, reaches out, and asks the node what it likes. In version 2 it has to say
  // so: what an app can give away, and to whom, is in the manifest that its owner signs for.
  const isFirst = manifest.version === 1;
  const [data, egress, api] = isFirst
    ? (['rw', 'internet', FIRST_API] as const)
    : (['none', 'none', []] as const);
  const secrets = secretsOf(manifest);
  return manifest.containers.map((container: Static<typeof ContainerV2Schema>) => ({
    env: {},
    command: undefined,
    cpuPercent: undefined,
    user: undefined,
    requests: undefined,
    ...DEFAULTS,
    data,
    egress,
    ...container,
    http: sitesOf(container.http),
    // Of version 2, `assertApi` has seen that there is no other word.
    api: AGENT_API.filter((word) => (container.api ?? api).some((asked) => asked === word)),
    image: container.image.slice('sha256:'.length),
    secrets: secrets.filter(({ name }) => container.secrets?.includes(name)),
    health: container.health === undefined ? undefined : { ...HEALTH, ...container.health },
  }));
}

/** The secrets of an app. */
export const secretsOf = (manifest: Manifest): readonly AppSecret[] =>
  manifest.version === 1 ? [] : (manifest.secrets ?? []);

/** What the app's network signs as a validator; undefined for nothing. */
export const signerPartOf = (manifest: Manifest): ManifestV2['signer'] =>
  manifest.version === 1 ? undefined : manifest.signer;

function sitesOf(http: Static<typeof ContainerV2Schema>['http']): readonly SitePlan[] {
  if (http === undefined) return [];
  return 'port' in http ? [{ domain: undefined, port: http.port, protocol: 'http1' }] : http;
}

/**
 * A manifest from the bytes of a file.
 * @throws MANIFEST_TOO_LARGE, MANIFEST_VERSION, MANIFEST_MALFORMED, MANIFEST_NOT_CANONICAL, MANIFEST_CONTAINERS, MANIFEST_PATH,
 *   MANIFEST_HEALTH, MANIFEST_UPDATE, MANIFEST_DOMAIN, MANIFEST_REQUESTS, MANIFEST_API, MANIFEST_SECRETS, MANIFEST_SIGNER
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MANIFEST_MAX_BYTES) {
    throw new DstackError(
      'MANIFEST_TOO_LARGE',
      `a manifest has at most ${MANIFEST_MAX_BYTES} bytes, this one has ${bytes.length}`,
    );
  }
  const manifest = checkVersion(parseText(bytes));
  if (!bytesEqual(canonicalBytes(manifest), bytes)) {
    throw new DstackError(
      'MANIFEST_NOT_CANONICAL',
      'the manifest is not canonical JSON (RFC 8785), as `npx dstack app pack` writes it',
    );
  }
  assertContainers(manifest);
  assertDomains(manifest);
  assertRequests(manifest);
  assertApi(manifest);
  assertSecrets(manifest);
  const signer = signerPartOf(manifest);
  if (signer !== undefined)
    assertSigner(
      signer,
      secretsOf(manifest).map(({ name }) => name),
    );
  for (const plan of plansOf(manifest)) {
    assertPaths(plan);
    assertHealth(plan);
    assertUpdate(plan);
  }
  return manifest;
}

/** The canonical bytes of a manifest. Same refusals as `parseManifest`. */
export function formatManifest(manifest: Manifest): Uint8Array {
  const bytes = canonicalBytes(manifest);
  parseManifest(bytes);
  return bytes;
}

/** What the contract names a manifest by: SHA-256 of its canonical bytes. */
export function manifestHash(bytes: Uint8Array): Uint8Array {
  return sha256(bytes);
}

/**
 * An app's name as the contract has it: ASCII, padded with zeros on the right to 32 bytes.
 * @throws APP_NAME
 */
export function appId(name: string): Uint8Array {
  check(AppName, name, 'APP_NAME', `the app name ${JSON.stringify(name.slice(0, 64))}`);
  const id = new Uint8Array(32);
  id.set(utf8(name));
  return id;
}

/** The name behind an id. @throws APP_NAME for anything that `appId` does not make */
export function appName(id: Uint8Array): string {
  const end = id.indexOf(0);
  const name = Buffer.from(id.subarray(0, end === -1 ? id.length : end)).toString('latin1');
  if (!bytesEqual(appId(name), id))
    throw new DstackError('APP_NAME', 'not the id of an app: bytes after its end');
  return name;
}

function parseText(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new DstackError('MANIFEST_MALFORMED', 'the manifest is not JSON in UTF-8', { cause });
  }
}

/** Each version by its own schema, so that a refusal names the field. */
function checkVersion(value: unknown): Manifest {
  const version = (value as { version?: unknown } | null)?.version;
  if (version === 1 || version === 2)
    return check<TSchema>(schemas[version], value, 'MANIFEST_MALFORMED', 'the manifest') as Manifest;
  if (!Number.isSafeInteger(version))
    throw new DstackError('MANIFEST_MALFORMED', 'the manifest is malformed: it has no version');
  throw new DstackError(
    'MANIFEST_VERSION',
    `the manifest has version ${version}; this release reads 1 and 2`,
  );
}

function canonicalBytes(manifest: Manifest): Uint8Array {
  try {
    return utf8(canonicalize(manifest) ?? '');
  } catch (cause) {
    // Lone surrogates have no canonical form.
    throw new DstackError('MANIFEST_MALFORMED', 'the manifest has no canonical form', { cause });
  }
}

/** What these names lead to is the same in every container. */
const TAKEN_NAMES = ['dstack-guest', 'localhost'];

function assertContainers(manifest: Manifest): void {
  if (manifest.containers.length === 0 && signerPartOf(manifest) === undefined)
    throw new DstackError('MANIFEST_CONTAINERS', 'the manifest has neither a container nor a signer');
  const names = new Set(manifest.containers.map((container) => container.name));
  const taken = TAKEN_NAMES.find((name) => names.has(name));
  if (taken !== undefined) {
    throw new DstackError(
      'MANIFEST_CONTAINERS',
      `a container cannot be named ${taken}: the others reach it by its name, and that one is taken`,
    );
  }
  if (names.size !== manifest.containers.length) {
    throw new DstackError('MANIFEST_CONTAINERS', 'two containers of the manifest have the same name');
  }
  const websites = plansOf(manifest).filter(({ http }) => http.some(({ domain }) => domain === undefined));
  if (websites.length > 1) {
    throw new DstackError(
      'MANIFEST_CONTAINERS',
      "more than one container of the manifest is to be the network's website",
    );
  }
}

/** The domains of an app, in the manifest's order. */
export const domainsOf = (manifest: Manifest): readonly string[] =>
  plansOf(manifest).flatMap(({ http }) => http.flatMap(({ domain }) => domain ?? []));

function assertDomains(manifest: Manifest): void {
  const domains = domainsOf(manifest);
  const odd = domains.find((domain) => !isPlainDomain(domain));
  if (odd !== undefined) {
    throw new DstackError(
      'MANIFEST_DOMAIN',
      `${odd} is no name of the DNS: letters beyond ASCII are written as IDNA has them, xn--…`,
    );
  }
  const twice = domains.find((domain, index) => domains.indexOf(domain) !== index);
  if (twice !== undefined)
    throw new DstackError('MANIFEST_DOMAIN', `the manifest has the domain ${twice} twice`);
}

function assertRequests(manifest: Manifest): void {
  const shared = plansOf(manifest).find(({ requests, http }) =>
    http.some(({ port }) => port === requests?.port),
  );
  if (shared !== undefined)
    throw new DstackError(
      'MANIFEST_REQUESTS',
      `the container ${shared.name} has one port for hosts and for visitors: a visitor could ask what hosts do`,
    );
  const names = plansOf(manifest).flatMap(({ name, requests }) => (requests === undefined ? [] : [name]));
  if (names.length > 1)
    throw new DstackError(
      'MANIFEST_REQUESTS',
      `one container of an app answers requests of hosts, not ${names.join(' and ')}`,
    );
}

/**
 * Whether browsers ask for a domain by exactly this name. The schema has seen to letters, digits, hyphens and lengths; here it is that
 * `xn--` is followed by what it stands for (RFC 5891), and that no other label has hyphens where those have them (RFC 5890, 2.3.1).
 */
function isPlainDomain(domain: string): boolean {
  const reserved = domain.split('.').filter((label) => label.slice(2, 4) === '--');
  if (!reserved.every((label) => label.startsWith('xn--'))) return false;
  const shown = domainToUnicode(domain);
  // What stands for nothing is left as it is.
  return !/(^|\.)xn--/.test(shown) && domainToASCII(shown) === domain;
}

function assertApi(manifest: Manifest): void {
  for (const { name, api = [] } of manifest.containers as ManifestV2['containers']) {
    const unknown = api.find((word) => !AGENT_API.some((known) => known === word));
    if (unknown === undefined) continue;
    throw new DstackError(
      'MANIFEST_API',
      `container ${name} wants ${unknown} of its node's api, which has ${AGENT_API.join(', ')}`,
    );
  }
}

/** Each is named once, has an envelope of its own, and goes to somebody: nothing in a manifest is without effect. */
function assertSecrets(manifest: Manifest): void {
  const secrets = secretsOf(manifest);
  const refuse = (why: string) => {
    throw new DstackError('MANIFEST_SECRETS', why);
  };
  const used = new Set<string>(secretsOfSigner(signerPartOf(manifest)));
  for (const { name: container, secrets: wanted = [] } of manifest.containers as ManifestV2['containers']) {
    for (const [at, name] of wanted.entries()) {
      if (!secrets.some((secret) => secret.name === name))
        refuse(`container ${container} wants the secret ${name}, which is not among the manifest's secrets`);
      if (wanted.indexOf(name) !== at) refuse(`container ${container} wants the secret ${name} twice`);
      used.add(name);
    }
  }
  for (const [at, { name, envelope }] of secrets.entries()) {
    const same = secrets.findIndex((secret) => secret.name === name || secret.envelope === envelope);
    if (same !== at)
      refuse(`the manifest has the secret ${name} twice, or its envelope as that of ${secrets[same]?.name}`);
    if (!used.has(name)) refuse(`no container, and no signer, gets the secret ${name}`);
  }
}

function assertHealth({ name, health, http }: ContainerPlan): void {
  if (health === undefined) return;
  if ((health.http === undefined) === (health.exec === undefined))
    throw new DstackError('MANIFEST_HEALTH', `the health of container ${name} needs one of http and exec`);
  if (health.http !== undefined && http[0]?.protocol !== 'http1')
    throw new DstackError(
      'MANIFEST_HEALTH',
      `the health of container ${name} is an http path, and its first http port, if it has any, does not speak http1`,
    );
}

function assertUpdate({ name, update, data, volumes }: ContainerPlan): void {
  if (update !== 'beside' || (data !== 'rw' && Object.keys(volumes).length === 0)) return;
  throw new DstackError(
    'MANIFEST_UPDATE',
    `container ${name} writes to the data disk, so two of it must never run: its update is replace`,
  );
}

/** What a container sees of the kernel, the node and the disks stays in place. */
const TAKEN = ['/proc', '/sys', '/dev', '/etc', DATA_PATH, HOST_VOLUME_PATH];
/** Nothing is mounted over these: around them there may be something, `/run` above all. */
const COVERED = [AGENT_PATH, AGENT_PATH.replace('/var', '')];

function assertPaths({ name, tmpfs, volumes, secrets }: ContainerPlan): void {
  const places = [...Object.keys(tmpfs), ...Object.keys(volumes)];
  for (const [index, path] of places.entries()) {
    const isOdd = path.split('/').some((part) => part === '.' || part === '..');
    const others = [...TAKEN, ...places.filter((_, other) => other !== index)];
    const isTmpfs = index < Object.keys(tmpfs).length;
    // A tmpfs at /run, which a container has anyway, is no place of theirs; a folder that is kept would be.
    const hidesSecrets =
      secrets.length > 0 && (isWithin(path, SECRETS_PATH) || (!isTmpfs && isWithin(SECRETS_PATH, path)));
    const isTaken =
      COVERED.some((other) => isWithin(path, other)) ||
      others.some((other) => isWithin(path, other) || isWithin(other, path));
    if (isOdd || hidesSecrets || isTaken) {
      const what = isTmpfs ? 'a tmpfs' : 'a volume';
      throw new DstackError(
        'MANIFEST_PATH',
        `container ${name} cannot have ${what} at ${path}: it is taken, within or around another, or no plain path`,
      );
    }
  }
}

const isWithin = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);
