/** `app pack`: from an archive, or a Compose file and its archives, to the files that nodes look for. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fillDurably, writeDurably } from '../../lib/daemon/durable-file.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import {
  AGENT_API,
  type AppSecret,
  appId,
  ContainerV2Schema,
  formatManifest,
  MANIFEST_MAX_BYTES,
  type Manifest,
  type ManifestV2,
  manifestHash,
} from '../../lib/protocol/manifest.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { type SignerPart, SignerSchema, secretsOfSigner } from '../../lib/protocol/signer-part.ts';
import { answer } from '../answers.ts';
import { plainArchive } from '../app/archive.ts';
import { manifestOfCompose } from '../app/compose.ts';
import { type PackedSecret, secretsFrom } from '../app/envelopes.ts';
import { prepareVolumes } from '../app/volume.ts';
import { type Arguments, type Command, narration, narrationOptions, typed, UsageError } from '../command.ts';
import { readGiven } from '../owner/connection.ts';

export const pack: Command = {
  name: 'app pack',
  summary: "puts `docker save` archives and their manifest where VMs find them; prints the manifest's hash",
  positionals: ['NAME', 'ARCHIVE|COMPOSE.yml|SIGNER.json'],
  options: {
    port: { value: 'PORT', help: 'the port on which the container speaks HTTP' },
    domain: {
      value: 'DOMAIN',
      help: "a website of the app's own at that port, in place of the network's; may be given several times",
      multiple: true,
    },
    h2c: { help: 'with --domain: the container speaks HTTP/2 without TLS there' },
    requests: {
      value: 'PORT',
      help: "the port on which the container answers what hosts ask by their node's: docs/framework.md",
    },
    api: {
      value: 'WORD',
      help: `what the container may ask of its node: ${AGENT_API.join(', ')}; may be given several times`,
      multiple: true,
    },
    secret: {
      value: 'SECRET=FILE',
      help: 'a secret, and its envelope as `app secret set` wrote it; may be given several times',
      multiple: true,
    },
    signer: {
      value: 'FILE',
      help: "the manifest's signer, as JSON (docs/signer.md); for an app of nothing else, give it in place of the archive",
    },
    env: { value: 'NAME=VALUE', help: 'an environment variable; may be given several times', multiple: true },
    set: {
      value: 'FIELD=VALUE',
      help: 'a field of a container of manifest version 2, such as memoryMiB=256; may be given several times',
      multiple: true,
    },
    archive: {
      value: 'SERVICE=FILE',
      help: "with a Compose file: the archive of a service's image; may be given several times",
      multiple: true,
    },
    out: {
      value: 'DIR',
      help: 'the host volume of a VM; may be given several times',
      multiple: true,
      required: true,
    },
    ...narrationOptions,
  },
  async run(args) {
    const [app, source] = args.positionals as [string, string];
    typed(() => appId(app));
    const secrets = secretsFrom(app, envelopeFiles(args));
    const scratch = new Scratch();
    try {
      const { bytes, archives } = await packedFrom(args, app, source, secrets, scratch);
      const hash = toHex(manifestHash(bytes));
      const volumes = args.list('out');
      const folders = ['archives', 'manifests', ...(secrets.length > 0 ? ['secrets'] : [])];
      await prepareVolumes(volumes, folders);
      for (const volume of volumes) await place(volume, { archives, secrets, manifest: bytes, hash });
      const say = narration(args);
      for (const digest of archives.keys()) say(`config   sha256:${digest}`);
      const answersHttp = hasPort(bytes);
      if (archives.size > 0 && !answersHttp && !hasRequests(bytes))
        say('no port: no container of this app answers over HTTP (--port, or `ports` in a Compose file)');
      const files = volumes.map((volume) => manifestFile(volume, hash));
      say(`manifest 0x${hash}`, ...files.map((file) => `file     ${file}`));
      answer(args, 'app pack', {
        app,
        manifest: `0x${hash}`,
        archives: [...archives.keys()].map((digest) => `sha256:${digest}`),
        files,
        answersHttp,
      });
    } finally {
      await scratch.remove();
    }
  },
};

/** Whether a visitor of a website can reach any of its containers. */
function hasPort(manifest: Uint8Array): boolean {
  const { containers } = JSON.parse(new TextDecoder().decode(manifest)) as Pick<Manifest, 'containers'>;
  return containers.some(({ http }) => http !== undefined);
}

/** Whether hosts can ask one of them. */
function hasRequests(manifest: Uint8Array): boolean {
  const { containers } = JSON.parse(new TextDecoder().decode(manifest)) as ManifestV2;
  return containers.some(({ requests }) => requests !== undefined);
}

function packedFrom(
  args: Arguments,
  app: string,
  source: string,
  secrets: readonly AppSecret[],
  scratch: Scratch,
): Promise<Packed> {
  if (/\.json$/i.test(source)) return Promise.resolve(fromSigner(args, app, source, secrets));
  if (/\.ya?ml$/i.test(source)) return fromCompose(args, app, source, secrets, scratch);
  return fromArchive(args, app, source, secrets, scratch);
}

/** Options that are about containers. */
const OF_CONTAINERS = ['port', 'domain', 'h2c', 'api', 'env', 'set', 'archive', 'signer'];

/** A manifest without containers. */
function fromSigner(args: Arguments, app: string, file: string, secrets: readonly AppSecret[]): Packed {
  for (const option of OF_CONTAINERS) {
    if (args.optional(option) !== undefined)
      throw new UsageError(`--${option} is for an app with containers: ${file} is a signer and no archive`);
  }
  const manifest = { version: 2 as const, app, containers: [], ...declared(secrets), signer: signerIn(file) };
  return { bytes: typed(() => formatManifest(manifest)), archives: new Map() };
}

/** @throws MANIFEST_SIGNER */
function signerIn(file: string): SignerPart {
  const text = readGiven('the signer', file).toString('utf8');
  return typed(() => parseJson(SignerSchema, text, 'MANIFEST_SIGNER', file, MANIFEST_MAX_BYTES));
}

/** What `--signer` adds to a manifest. */
function ownSigner(args: Arguments): Pick<ManifestV2, 'signer'> {
  const file = args.optional('signer');
  return file === undefined ? {} : { signer: signerIn(file) };
}

/** Folders for archives that have to be made, gone afterwards. */
class Scratch {
  readonly #folders: string[] = [];

  readonly folder = async (): Promise<string> => {
    const made = await mkdtemp(join(tmpdir(), 'dstack-pack-'));
    this.#folders.push(made);
    return made;
  };

  async remove(): Promise<void> {
    for (const folder of this.#folders) await rm(folder, { recursive: true, force: true });
  }
}

interface Packed {
  /** Of the manifest. */
  readonly bytes: Uint8Array;
  /** File by config digest. */
  readonly archives: ReadonlyMap<string, string>;
}

/** Version 1 where it says all: its hash is the same as that of earlier releases, and nodes of theirs run it. */
async function fromArchive(
  args: Arguments,
  app: string,
  archive: string,
  secrets: readonly AppSecret[],
  scratch: Scratch,
): Promise<Packed> {
  if (args.list('archive').length > 0)
    throw new UsageError(`--archive is for a Compose file (.yml or .yaml), and ${archive} is none`);
  const env = eachOnce(
    'env',
    args.list('env').map((text) => assignment(text, 'env', 'NAME')),
  );
  const port = portOf(args);
  const requests = portOf(args, 'requests');
  const { digest, file } = await plainArchive(archive, scratch.folder);
  const container = {
    name: app,
    image: `sha256:${digest}`,
    ...(Object.keys(env).length === 0 ? {} : { env }),
    ...(port === undefined ? {} : { http: { port } }),
  };
  const api = args.list('api');
  const signer = ownSigner(args);
  // A validator's key is nothing that a container gets unasked.
  const given = secrets
    .map(({ name }) => name)
    .filter((name) => !secretsOfSigner(signer.signer).includes(name));
  const options = {
    ...ownSites(args),
    ...(requests !== undefined && { requests: { port: requests } }),
    ...(api.length > 0 && { api }),
    ...(given.length > 0 && { secrets: given }),
  };
  const set = eachOnce('set', args.list('set').map(field));
  for (const name of Object.keys(set)) {
    if (name === 'image') throw new UsageError(`--set image is not for a single archive: it is ${archive}`);
    if (name in options || (name !== 'name' && name in container))
      throw new UsageError(`--set ${name} and another option both give ${name}`);
  }
  const fields = { ...options, ...set };
  const manifest: Manifest =
    Object.keys(fields).length === 0 && signer.signer === undefined
      ? { version: 1, app, containers: [container] }
      : { version: 2, app, containers: [{ ...container, ...fields }], ...declared(secrets), ...signer };
  const bytes = typed(() => formatManifest(manifest));
  return { bytes, archives: new Map([[digest, file]]) };
}

/** A manifest's own list. */
const declared = (secrets: readonly AppSecret[]): Pick<ManifestV2, 'secrets'> =>
  secrets.length === 0 ? {} : { secrets: secrets.map(({ name, envelope }) => ({ name, envelope })) };

function envelopeFiles(args: Arguments): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const text of args.list('secret')) {
    const [name, file] = assignment(text, 'secret', 'SECRET', 'FILE');
    if (files.has(name)) throw new UsageError(`--secret is given twice for ${name}`);
    files.set(name, file);
  }
  return files;
}

/** Of one container, all at its one port. */
function ownSites(args: Arguments): Partial<ManifestV2['containers'][number]> {
  const domains = args.list('domain');
  if (domains.length === 0) {
    if (args.flag('h2c')) throw new UsageError('--h2c is for the domains that --domain gives');
    return {};
  }
  const port = portOf(args);
  if (port === undefined) throw new UsageError('--domain needs --port, at which the container answers');
  const protocol = args.flag('h2c') ? 'h2c' : 'http1';
  return { http: domains.map((domain) => ({ domain, port, protocol })) };
}

async function fromCompose(
  args: Arguments,
  app: string,
  file: string,
  secrets: readonly AppSecret[],
  scratch: Scratch,
): Promise<Packed> {
  for (const option of ['port', 'domain', 'h2c', 'requests', 'api', 'env', 'set']) {
    if (args.optional(option) !== undefined)
      throw new UsageError(`--${option} is for a single archive: with a Compose file, write it there`);
  }
  const images = new Map<string, string>();
  const archives = new Map<string, string>();
  for (const text of args.list('archive')) {
    const [service, archive] = assignment(text, 'archive', 'SERVICE', 'FILE');
    if (images.has(service)) throw new UsageError(`--archive is given twice for ${service}`);
    const { digest, file: plain } = await plainArchive(archive, scratch.folder);
    images.set(service, digest);
    archives.set(digest, plain);
  }
  const text = readGiven('the Compose file', file).toString('utf8');
  const named = new Set(secrets.map(({ name }) => name));
  const manifest = {
    ...manifestOfCompose(app, text, images, named),
    ...declared(secrets),
    ...ownSigner(args),
  };
  return { bytes: formatManifest(manifest), archives };
}

/** Each file appears under its name only when it is whole: a VM may be reading the volume. */
async function place(
  volume: string,
  files: {
    readonly archives: ReadonlyMap<string, string>;
    readonly secrets: readonly PackedSecret[];
    readonly manifest: Uint8Array;
    readonly hash: string;
  },
): Promise<void> {
  for (const [digest, archive] of files.archives)
    await fillDurably(join(volume, 'archives', `${digest}.tar`), (draft) => copyFile(archive, draft));
  for (const { envelope, bytes } of files.secrets)
    writeDurably(join(volume, 'secrets', `${envelope}.json`), bytes);
  writeDurably(manifestFile(volume, files.hash), files.manifest);
}

const manifestFile = (volume: string, hash: string): string => join(volume, 'manifests', `${hash}.json`);

function portOf(args: Arguments, option: 'port' | 'requests' = 'port'): number | undefined {
  const port = args.optional(option);
  if (port === undefined) return undefined;
  if (/^[1-9]\d{0,4}$/.test(port) && Number(port) <= 65_535) return Number(port);
  throw new UsageError(`--${option} takes one port of the container, 1 to 65535, not ${port}`);
}

/** Of two values for one name the last would silently win. @throws USAGE */
function eachOnce<T>(option: string, entries: readonly [string, T][]): Record<string, T> {
  const names = entries.map(([name]) => name);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new UsageError(`--${option} gives ${twice} twice`);
  return Object.fromEntries(entries);
}

/**
 * A value that is JSON is taken as JSON (256, {"/run":16}), any other as text; where the field is a text, all are (1000).
 * @throws USAGE for a field that no container has, and for a text where the field is a list or a mapping
 */
function field(text: string): [string, unknown] {
  const [name, value] = assignment(text, 'set', 'FIELD');
  const fields: Readonly<Record<string, object>> = ContainerV2Schema.properties;
  if (!Object.hasOwn(fields, name)) {
    const known = Object.keys(fields).filter((one) => one !== 'image');
    throw new UsageError(`--set has no field ${name}: a container has ${known.join(', ')}`);
  }
  const { type } = fields[name] as { readonly type?: string };
  if (type === 'string') return [name, value];
  try {
    return [name, JSON.parse(value)];
  } catch {
    const form = { array: '["…"]', object: '{"…": …}' }[type ?? ''];
    if (form === undefined) return [name, value];
    throw new UsageError(`--set ${name} takes JSON, such as --set '${name}=${form}', not ${value}`);
  }
}

function assignment(text: string, option: string, left: string, right = 'VALUE'): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new UsageError(`--${option} takes ${left}=${right}, not ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}
