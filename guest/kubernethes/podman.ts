/**
 * Podman behind the Engine interface, through its HTTP API on a unix socket.
 *
 * The client is ours and small: a general one takes seconds to load under emulation, and six calls are all that is
 * needed. Containers go through the Docker-compatible API; networks through podman's own, which alone lets one name the
 * interface and do without a name server.
 */
import { request } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Static, type TSchema, Type } from 'typebox';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';
import type { ContainerSpec, Engine, Running } from './engine.ts';

const LABEL = 'dstack.app';
const MAX_REPLY = 4 * 1024 * 1024;
/** Loading and starting are slow under emulation. Milliseconds. */
const TIMEOUT = 300_000;

/** What every app container gets; an app that needs more does not belong on a node that others use. */
const limits = {
  memory: 512 * 1024 * 1024,
  pids: 256,
  tmp: 'rw,nosuid,nodev,size=64m,mode=1777',
  /** Enough to drop to another user and to bind a low port inside its own network namespace. */
  capabilities: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'KILL', 'NET_BIND_SERVICE', 'SETGID', 'SETUID'],
  stopSeconds: 3,
} as const;

const Anything = Type.Unknown();
const CreatedSchema = Type.Object({ Id: Type.String({ pattern: '^[0-9a-f]{64}$' }) });
const ContainersSchema = Type.Array(Type.Object({ Id: Type.String() }));
const ImagesSchema = Type.Array(Type.Object({ Id: Type.String() }));
const ImageSchema = Type.Object({ Id: Type.String() });
const NetworksSchema = Type.Array(
  Type.Object({ name: Type.String(), network_interface: Type.Optional(Type.String()) }),
);
const InspectSchema = Type.Object({
  State: Type.Object({ Running: Type.Boolean() }),
  NetworkSettings: Type.Object({
    Networks: Type.Record(Type.String(), Type.Object({ IPAddress: Type.String() })),
  }),
});
const LoadedSchema = Type.Object({ error: Type.Optional(Type.String()) });

/** @param socketPath podman's API socket */
export function podman(socketPath: string): Engine {
  const call = caller(socketPath);

  async function networks() {
    const all = await call('GET', '/v5.0.0/libpod/networks/json', NetworksSchema);
    return all.filter((network) => network.name.startsWith('dstack-'));
  }

  async function running(id: string, app: string): Promise<Running> {
    const found = await call('GET', `/containers/${id}/json`, InspectSchema);
    const address = found.NetworkSettings.Networks[networkName(app)]?.IPAddress ?? '';
    if (!/^(\d{1,3}\.){3}\d{1,3}$/.test(address)) {
      throw new DstackError('ENGINE_NO_ADDRESS', `the container ${id.slice(0, 12)} of ${app} has no address`);
    }
    return { id, address };
  }

  /** The app of a container that is known by its id only. */
  async function appOf(id: string): Promise<string> {
    const schema = Type.Object({
      Config: Type.Object({ Labels: Type.Record(Type.String(), Type.String()) }),
    });
    return (await call('GET', `/containers/${id}/json`, schema)).Config.Labels[LABEL] ?? '';
  }

  const remove = async (id: string): Promise<void> => {
    // Killed first: a forced removal alone gives a container that ignores signals ten more seconds.
    await call('POST', `/containers/${id}/kill?signal=KILL`, Anything, { accept: [404, 409] });
    await call('DELETE', `/containers/${id}?force=true`, Anything, { accept: [404] });
  };
  const removeNetwork = async (name: string): Promise<void> => {
    await call('DELETE', `/v5.0.0/libpod/networks/${name}?force=true`, Anything, { accept: [404] });
  };

  return {
    async clear() {
      const filters = encodeURIComponent(JSON.stringify({ label: [LABEL] }));
      const left = await call('GET', `/containers/json?all=true&filters=${filters}`, ContainersSchema);
      for (const container of left) await remove(container.Id);
      for (const network of await networks()) await removeNetwork(network.name);
    },

    async hasImage(digest) {
      const image = await call('GET', `/images/sha256:${digest}/json`, Type.Partial(ImageSchema), {
        accept: [404],
      });
      return image.Id?.replace(/^sha256:/, '') === digest;
    },

    async loadImage(archive) {
      const reply = await call('POST', '/images/load?quiet=true', LoadedSchema, { stream: archive });
      if (reply.error !== undefined)
        throw new DstackError('ENGINE_LOAD', `podman cannot load the image: ${reply.error.slice(0, 300)}`);
    },

    async pruneImages(keep) {
      for (const image of await call('GET', '/images/json?all=true', ImagesSchema)) {
        const digest = image.Id.replace(/^sha256:/, '');
        if (/^[0-9a-f]{64}$/.test(digest) && !keep.has(digest)) {
          await call('DELETE', `/images/${digest}?force=true`, Anything, { accept: [404, 409] });
        }
      }
    },

    async ensureNetwork(app) {
      const name = networkName(app);
      const existing = await networks();
      const taken = new Set(existing.map((network) => network.network_interface));
      const index = Array.from({ length: 250 }, (_, n) => n).find((n) => !taken.has(interfaceName(n)));
      const found = existing.find((network) => network.name === name);
      if (found !== undefined) return { name, gateway: gatewayOf(found.network_interface ?? '') };
      if (index === undefined)
        throw new DstackError('ENGINE_NETWORKS', 'more than 250 apps do not fit on a node');
      await call('POST', '/v5.0.0/libpod/networks/create', Anything, { body: networkRequest(name, index) });
      return { name, gateway: gatewayOf(interfaceName(index)) };
    },

    removeNetwork: (app) => removeNetwork(networkName(app)),

    async create(spec) {
      await remove(spec.name);
      const created = await call('POST', `/containers/create?name=${spec.name}`, CreatedSchema, {
        body: containerRequest(spec),
      });
      return created.Id;
    },

    async start(id) {
      await call('POST', `/containers/${id}/start`, Anything);
      return running(id, await appOf(id));
    },
    async stop(id) {
      await call('POST', `/containers/${id}/stop?t=${limits.stopSeconds}`, Anything, { accept: [404] });
    },
    remove,
    async isRunning(id) {
      const found = await call('GET', `/containers/${id}/json`, Type.Partial(InspectSchema), {
        accept: [404],
      });
      return found.State?.Running === true;
    },
  };
}

const networkName = (app: string): string => `dstack-${app}`;
/** The prefix is what the guest's firewall lets reach the agent; 15 characters is Linux's limit. */
const interfaceName = (index: number): string => `dstack${index}`;
const gatewayOf = (name: string): string => `10.90.${Number(name.slice('dstack'.length))}.1`;

/** The body for a new network. `isolate` keeps one app's packets from another's bridge. */
export function networkRequest(name: string, index: number): object {
  return {
    name,
    driver: 'bridge',
    network_interface: interfaceName(index),
    subnets: [{ subnet: `10.90.${index}.0/24`, gateway: gatewayOf(interfaceName(index)) }],
    dns_enabled: false,
    ipv6_enabled: false,
    options: { isolate: 'true' },
  };
}

/** The body for a new container (Docker Engine API, ContainerCreate). */
export function containerRequest(spec: ContainerSpec): object {
  return {
    Image: `sha256:${spec.image}`,
    Env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
    ...(spec.command === undefined ? {} : { Cmd: spec.command }),
    Labels: { [LABEL]: spec.app },
    Hostname: spec.name.slice(0, 63),
    HostConfig: {
      NetworkMode: spec.network.name,
      ExtraHosts: [`dstack-guest:${spec.network.gateway}`],
      Binds: spec.data === undefined ? [] : [`${spec.data}:/mnt/encrypted_data:rw,nosuid,nodev`],
      CapDrop: ['ALL'],
      CapAdd: [...limits.capabilities],
      SecurityOpt: ['no-new-privileges'],
      ReadonlyRootfs: true,
      Tmpfs: { '/tmp': limits.tmp },
      Memory: limits.memory,
      MemorySwap: limits.memory,
      PidsLimit: limits.pids,
      RestartPolicy: { Name: 'no' },
      LogConfig: { Type: 'k8s-file', Config: { 'max-size': '1mb' } },
    },
  };
}

interface CallOptions {
  body?: object;
  stream?: Readable;
  /** Statuses besides 2xx and 304 that are fine; the reply is then an empty object. */
  accept?: number[];
}

type Call = <T extends TSchema>(
  method: string,
  path: string,
  reply: T,
  options?: CallOptions,
) => Promise<Static<T>>;

function caller(socketPath: string): Call {
  return async (method, path, reply, options = {}) => {
    const { status, text } = await exchange(socketPath, method, path, options);
    if (options.accept?.includes(status)) return {} as never;
    if (status >= 400) {
      throw new DstackError(
        'ENGINE_REFUSED',
        `podman answered ${method} ${path} with ${status}: ${text.slice(0, 300)}`,
      );
    }
    return check(
      reply,
      text === '' ? {} : parse(text),
      'ENGINE_REPLY',
      `podman’s reply to ${method} ${path}`,
    );
  };
}

/** Some endpoints send a line of JSON for each step; the last one says how it ended. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    try {
      return JSON.parse(text.trim().split('\n').at(-1) ?? '');
    } catch (cause) {
      throw new DstackError('ENGINE_REPLY', 'podman’s reply is not JSON', { cause });
    }
  }
}

async function exchange(
  socketPath: string,
  method: string,
  path: string,
  options: CallOptions,
): Promise<{ status: number; text: string }> {
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const type = options.stream === undefined ? 'application/json' : 'application/x-tar';
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) =>
      reject(
        new DstackError('ENGINE_UNREACHABLE', `podman does not answer on ${socketPath}: ${cause.message}`, {
          cause,
        }),
      );
    const req = request({
      socketPath,
      method,
      path,
      headers: {
        host: 'podman',
        ...(body === undefined && options.stream === undefined ? {} : { 'content-type': type }),
        ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
      },
      signal: AbortSignal.timeout(TIMEOUT),
    });
    req.on('error', fail);
    req.on('response', (res) => {
      const chunks: Buffer[] = [];
      let size = 0;
      res.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_REPLY) res.destroy(new Error('its reply is too large'));
        else chunks.push(chunk);
      });
      res.on('error', fail);
      res.on('end', () =>
        resolve({ status: res.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    if (options.stream === undefined) req.end(body);
    else pipeline(options.stream, req).catch(fail);
  });
}
