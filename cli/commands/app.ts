/** `app …`: what an app's author and the network's owner do to get containers into the VMs. */
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, open, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { extract } from 'tar-stream';
import { Type } from 'typebox';
import type { Head } from '../../lib/chain/chain-client.ts';
import { dropDrafts, fillDurably, writeDurably } from '../../lib/daemon/durable-file.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { COMPRESSION_MAGIC_BYTES, compressionOf } from '../../lib/protocol/compression.ts';
import { fromHex, sha256, to0x, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ZERO_WORD } from '../../lib/protocol/hex.ts';
import {
  appId,
  type Container,
  formatManifest,
  type Manifest,
  manifestHash,
  parseManifest,
} from '../../lib/protocol/manifest.ts';
import {
  type AppView,
  decodeAppOf,
  encodeAppOf,
  encodeRollback,
  encodeRollout,
  encodeWithdraw,
} from '../../lib/protocol/network-contract.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { type Command, UsageError } from '../command.ts';
import { instant } from '../instant.ts';
import { act, openOwner, ownerOptions } from '../owner/act.ts';
import type { NetworkConnection } from '../owner/connection.ts';
import { fromWhen } from './network-policy.ts';

const pack: Command = {
  name: 'app pack',
  summary: "puts a `docker save` archive and its manifest where VMs find them; prints the manifest's hash",
  positionals: ['NAME', 'ARCHIVE'],
  options: {
    port: { value: 'PORT', help: 'the port on which the container speaks HTTP' },
    env: { value: 'NAME=VALUE', help: 'an environment variable; may be given several times', multiple: true },
    out: {
      value: 'DIR',
      help: 'the host volume of a VM; may be given several times',
      multiple: true,
      required: true,
    },
  },
  async run(args) {
    const [app, archive] = args.positionals as [string, string];
    const digest = await configDigest(archive);
    const env = Object.fromEntries(args.list('env').map(environmentVariable));
    const manifest: Manifest = {
      version: 1,
      app,
      containers: [
        {
          name: app,
          image: `sha256:${digest}`,
          ...(Object.keys(env).length === 0 ? {} : { env }),
          ...(args.optional('port') === undefined ? {} : { http: { port: Number(args.text('port')) } }),
        },
      ],
    };
    const bytes = formatManifest(manifest);
    const hash = toHex(manifestHash(bytes));
    for (const volume of args.list('out')) await place(volume, archive, digest, bytes, hash);
    print(`config   sha256:${digest}`);
    print(`manifest 0x${hash}`);
  },
};

/** Each file appears under its name only when it is whole: a VM may be reading the volume. */
async function place(
  volume: string,
  archive: string,
  digest: string,
  manifest: Uint8Array,
  hash: string,
): Promise<void> {
  const [archives, manifests] = [join(volume, 'archives'), join(volume, 'manifests')];
  for (const folder of [archives, manifests]) {
    await mkdir(folder, { recursive: true });
    dropDrafts(folder);
  }
  await fillDurably(join(archives, `${digest}.tar`), (draft) => copyFile(archive, draft));
  writeDurably(join(manifests, `${hash}.json`), manifest);
}

/** The config digest of the one image in a docker archive: SHA-256 of the config itself, whatever its name. */
async function configDigest(archive: string): Promise<string> {
  await requirePlain(archive);
  const { small, starts } = await readEntries(archive);
  const index = small.get('manifest.json');
  if (index === undefined)
    throw new DstackError(
      'ARCHIVE_MALFORMED',
      `${archive} has no manifest.json: make it with \`docker save\``,
    );
  const images = parseJson(
    DockerIndexSchema,
    index.toString('utf8'),
    'ARCHIVE_MALFORMED',
    `manifest.json of ${archive}`,
    SMALL,
  );
  for (const [at, layer] of (images[0]?.Layers ?? []).entries()) {
    const found = compressionOf(starts.get(layer) ?? Buffer.alloc(0));
    if (found === undefined) continue;
    throw new DstackError(
      'ARCHIVE_COMPRESSED',
      `layer ${at} in ${archive} is compressed with ${found.name}, and no node decompresses it: save the image with plain layers, by podman save, or skopeo copy --dest-decompress`,
    );
  }
  const name = images.length === 1 ? images[0]?.Config : undefined;
  const config = name === undefined ? undefined : small.get(name);
  if (config === undefined)
    throw new DstackError('ARCHIVE_MALFORMED', `${archive} does not hold exactly one image with its config`);
  return toHex(sha256(config));
}

const SMALL = 1024 * 1024;
/** Of all small entries together: a real archive has a few kilobytes of them. */
const SMALL_TOTAL = 64 * SMALL;
const DockerIndexSchema = Type.Array(
  Type.Object({ Config: Type.String(), Layers: Type.Optional(Type.Array(Type.String())) }),
);

/** @throws ARCHIVE_COMPRESSED */
async function requirePlain(archive: string): Promise<void> {
  const file = await open(archive);
  const start = Buffer.alloc(COMPRESSION_MAGIC_BYTES);
  const { bytesRead } = await file.read(start, 0, start.length, 0).finally(() => file.close());
  const found = compressionOf(start.subarray(0, bytesRead));
  if (found === undefined) return;
  const plain = `${basename(archive).replace(/\.(tgz|txz|tbz2?|tzst)$|\.tar\.[a-z0-9]+$|\.[a-z0-9]+$/i, '')}.tar`;
  throw new DstackError(
    'ARCHIVE_COMPRESSED',
    `${archive} is compressed with ${found.name}, and nodes take plain tar files only: make one with \`${found.decompress} -c ${archive} > ${plain}\`, and give that`,
  );
}

interface Entries {
  /** The JSON entries, by name; layers are skipped. */
  readonly small: ReadonlyMap<string, Buffer>;
  /** How each entry begins, for compressionOf. */
  readonly starts: ReadonlyMap<string, Buffer>;
}

/** @throws ARCHIVE_MALFORMED */
async function readEntries(archive: string): Promise<Entries> {
  const small = new Map<string, Buffer>();
  const starts = new Map<string, Buffer>();
  const file = createReadStream(archive);
  const tar = extract();
  file.on('error', (error) => tar.destroy(error));
  let total = 0;
  try {
    for await (const entry of file.pipe(tar)) {
      const { name, size = 0 } = entry.header;
      const isSmall = size <= SMALL;
      if (isSmall) total += size;
      if (total > SMALL_TOTAL) throw new Error(`its small entries are more than ${SMALL_TOTAL} bytes`);
      const chunks: Buffer[] = [];
      for await (const chunk of entry) {
        if (isSmall || chunks.length === 0) chunks.push(chunk as Buffer);
      }
      const content = Buffer.concat(chunks);
      starts.set(name, content.subarray(0, COMPRESSION_MAGIC_BYTES));
      if (isSmall) small.set(name, content);
    }
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== undefined) throw cause;
    throw new DstackError(
      'ARCHIVE_MALFORMED',
      `${archive} is not an archive of \`docker save\`: ${message}`,
      {
        cause,
      },
    );
  } finally {
    file.destroy();
  }
  return { small, starts };
}

function environmentVariable(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new UsageError(`--env takes NAME=VALUE, not ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

const rollout: Command = {
  name: 'app rollout',
  summary: "makes every node run this manifest, after the network's delay",
  positionals: ['NAME', 'MANIFEST'],
  options: ownerOptions,
  async run(args) {
    const [app, manifest] = args.positionals as [string, string];
    const id = to0x(appId(app));
    const { hash, about } = await namedManifest(app, manifest);
    const wanted = { app: id, manifestHash: hash };
    const owner = await openOwner(args);
    await requireNew(owner, app, wanted);
    await act(args, owner, {
      data: encodeRollout(wanted),
      effect: [`every node runs this manifest of ${app}, ${await fromWhen(owner)}`, ...about],
      async proof(at) {
        const shown = await appOf(owner, wanted.app, at);
        return shown.latest === wanted.manifestHash
          ? { done: [`${app} runs ${shown.latest} from ${instant(shown.from)}`] }
          : { instead: `${shown.latest} as the latest manifest of ${app}` };
      },
    });
  },
};

/**
 * The contract accepts the same manifest a second time: the one in force would become its own previous one, leaving nothing to roll
 * back to, and a pending one would restart its delay.
 *
 * @throws ALREADY_ROLLED_OUT
 */
async function requireNew(
  owner: NetworkConnection,
  name: string,
  { app, manifestHash }: { app: string; manifestHash: string },
): Promise<void> {
  const shown = await appOf(owner, app, await owner.chain.head());
  const isPending = shown.latest !== shown.manifestHash;
  if (shown.manifestHash === manifestHash) {
    const instead = isPending ? `; to cancel the rollout that is pending: app rollback ${name}` : '';
    throw new DstackError('ALREADY_ROLLED_OUT', `${name} runs ${manifestHash} already${instead}`);
  }
  if (isPending && shown.latest === manifestHash) {
    throw new DstackError(
      'ALREADY_ROLLED_OUT',
      `${manifestHash} of ${name} is pending and takes effect at ${instant(shown.from)}; a repeated rollout would restart its delay`,
    );
  }
}

/**
 * 32 bytes of hex are taken as they are; a manifest file is checked first, as the nodes will check it, and everything in it is
 * shown: it may be from somebody else.
 */
async function namedManifest(
  app: string,
  manifest: string,
): Promise<{ readonly hash: string; readonly about: readonly string[] }> {
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(manifest)) return { hash: to0x(fromHex(manifest, 32)), about: [] };
  const bytes = await readFile(manifest);
  const parsed = parseManifest(bytes);
  if (parsed.app !== app) throw new UsageError(`${manifest} is a manifest of ${parsed.app}, not of ${app}`);
  return { hash: to0x(manifestHash(bytes)), about: parsed.containers.flatMap(containerLines) };
}

/** Texts are quoted, so that none looks like a field of ours. */
function containerLines({ name, image, env = {}, command, http }: Container): readonly string[] {
  return [
    `container ${name}: image ${image}${http === undefined ? '' : `, which answers HTTP on port ${http.port}`}`,
    ...(command === undefined ? [] : [`  command ${JSON.stringify(command)}`]),
    ...Object.entries(env).map(([variable, value]) => `  env ${variable}=${JSON.stringify(value)}`),
  ];
}

const rollback: Command = {
  name: 'app rollback',
  summary: 'goes back to the previous manifest, at once',
  positionals: ['NAME'],
  options: ownerOptions,
  async run(args) {
    const [name] = args.positionals as [string];
    const app = to0x(appId(name));
    const owner = await openOwner(args);
    const before = await appOf(owner, app, await owner.chain.head());
    await act(args, owner, {
      data: encodeRollback({ app }),
      effect: [`${name} goes back from ${manifestText(before.latest)} to the manifest before it, at once`],
      async proof(at) {
        const shown = await appOf(owner, app, at);
        const isOther = shown.latest !== before.latest || shown.from !== before.from;
        return isOther && shown.latest === shown.manifestHash
          ? { done: [`${name} runs ${manifestText(shown.manifestHash)}`] }
          : { instead: `${manifestText(shown.latest)} as the latest manifest of ${name}` };
      },
    });
  },
};

const withdraw: Command = {
  name: 'app withdraw',
  summary: 'leaves the app without a manifest, at once',
  positionals: ['NAME'],
  options: ownerOptions,
  async run(args) {
    const [name] = args.positionals as [string];
    const app = to0x(appId(name));
    const owner = await openOwner(args);
    await act(args, owner, {
      data: encodeWithdraw({ app }),
      effect: [`no node runs ${name} any more, at once`],
      async proof(at) {
        const { latest, manifestHash } = await appOf(owner, app, at);
        return latest === ZERO_WORD && manifestHash === ZERO_WORD
          ? { done: [`${name} has no manifest`] }
          : { instead: `manifest ${manifestHash} of ${name}` };
      },
    });
  },
};

const manifestText = (hash: string): string => (hash === ZERO_WORD ? 'no manifest' : hash);

async function appOf({ call }: NetworkConnection, app: string, at: Head): Promise<AppView> {
  return decodeAppOf(await call(encodeAppOf({ app }), at));
}

export const appCommands: readonly Command[] = [pack, rollout, rollback, withdraw];
