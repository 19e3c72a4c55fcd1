/**
 * Podman behind the Engine interface: dockerode on podman's Docker-compatible socket. Networks go through podman's own
 * API on the same socket, because only that one can name the interface and omit the name server.
 */
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type Docker from 'dockerode';
import { Type } from 'typebox';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Bounds, boundedDocker, unless } from './bounded-docker.ts';
import type { ContainerSpec, Engine, Running } from './engine.ts';

const LABEL = 'dstack.app';
/** Generous, because loading and starting are slow under emulation. */
const BOUNDS: Bounds = { bytes: 4 * 1024 * 1024, milliseconds: 300_000 };

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
const Id = Type.String({ pattern: '^[0-9a-f]{64}$' });
const CreatedSchema = Type.Object({ id: Id });
const ContainersSchema = Type.Array(Type.Object({ Id }));
const ImagesSchema = Type.Array(Type.Object({ Id: Type.String() }));
const ImageSchema = Type.Object({ Id: Type.String() });
const NetworksSchema = Type.Array(
  Type.Object({ name: Type.String(), network_interface: Type.Optional(Type.String()) }),
);
const StateSchema = Type.Object({ State: Type.Object({ Running: Type.Boolean() }) });
const StartedSchema = Type.Object({
  Config: Type.Object({ Labels: Type.Record(Type.String(), Type.String()) }),
  NetworkSettings: Type.Object({
    Networks: Type.Record(Type.String(), Type.Object({ IPAddress: Type.String() })),
  }),
});
/** A line of its reply. An error is in one of two fields, or in both, in any form: any presence counts as an error. */
const LoadedSchema = Type.Array(
  Type.Object({ error: Type.Optional(Type.Unknown()), errorDetail: Type.Optional(Type.Unknown()) }),
  { minItems: 1 },
);

/** @param socketPath podman's API socket */
export function podman(socketPath: string, bounds = BOUNDS): Engine {
  const { call } = boundedDocker(socketPath, bounds);

  async function networks() {
    const all = await call('list its networks', NetworksSchema, (docker) => libpod(docker, 'GET', 'json'));
    return all.filter((network) => network.name.startsWith('dstack-'));
  }

  const remove = async (id: string): Promise<void> => {
    // Killed first: a forced removal alone gives a container that ignores signals ten more seconds.
    const kill = call(`kill ${id}`, Anything, (docker) => docker.getContainer(id).kill({ signal: 'KILL' }));
    await unless([404, 409], kill);
    const removal = call(`remove ${id}`, Anything, (docker) =>
      docker.getContainer(id).remove({ force: true }),
    );
    await unless([404], removal);
  };
  const removeNetwork = async (name: string): Promise<void> => {
    const removal = call(`remove the network ${name}`, Anything, (docker) =>
      libpod(docker, 'DELETE', `${name}?`, { force: true }),
    );
    await unless([404], removal);
  };

  return {
    async clear() {
      const ours = { all: true, filters: { label: [LABEL] } };
      const left = await call('list its containers', ContainersSchema, (docker) =>
        docker.listContainers(ours),
      );
      for (const container of left) await remove(container.Id);
      for (const network of await networks()) await removeNetwork(network.name);
    },

    async hasImage(digest) {
      const inspection = call(`show image ${digest}`, ImageSchema, (docker) =>
        docker.getImage(`sha256:${digest}`).inspect(),
      );
      const image = await unless([404], inspection);
      return image?.Id.replace(/^sha256:/, '') === digest;
    },

    async loadImage(archive) {
      try {
        const loaded = await call('load an image', LoadedSchema, (docker) => load(docker, archive));
        const problem = loaded.map(loadProblem).find((found) => found !== undefined);
        if (problem !== undefined)
          throw new DstackError('ENGINE_LOAD', `podman cannot load the image: ${problem.slice(0, 300)}`);
      } finally {
        archive.destroy();
      }
    },

    async pruneImages(keep) {
      const all = await call('list its images', ImagesSchema, (docker) => docker.listImages({ all: true }));
      for (const image of all) {
        const digest = image.Id.replace(/^sha256:/, '');
        if (!/^[0-9a-f]{64}$/.test(digest) || keep.has(digest)) continue;
        const removal = call(`remove image ${digest}`, Anything, (docker) =>
          docker.getImage(digest).remove({ force: true }),
        );
        await unless([404, 409], removal);
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
      await call(`make the network ${name}`, Anything, (docker) =>
        libpod(docker, 'POST', 'create', networkRequest(name, index)),
      );
      return { name, gateway: gatewayOf(interfaceName(index)) };
    },

    removeNetwork: (app) => removeNetwork(networkName(app)),

    async create(spec) {
      await remove(spec.name);
      // Without these two options, dockerode would repeat the whole body in the URL.
      const options: Docker.ContainerCreateOptions & { _query: object; _body: object } = {
        _query: { name: spec.name },
        _body: containerRequest(spec),
      };
      const created = await call(`create ${spec.name}`, CreatedSchema, (docker) =>
        docker.createContainer(options),
      );
      return created.id;
    },

    async start(id) {
      await unless(
        [304],
        call(`start ${id}`, Anything, (docker) => docker.getContainer(id).start()),
      );
      const found = await call(`show ${id}`, StartedSchema, (docker) => docker.getContainer(id).inspect());
      const app = found.Config.Labels[LABEL] ?? '';
      return runningAt(id, app, found.NetworkSettings.Networks[networkName(app)]?.IPAddress ?? '');
    },
    async stop(id) {
      const stopped = call(`stop ${id}`, Anything, (docker) =>
        docker.getContainer(id).stop({ t: limits.stopSeconds }),
      );
      await unless([304, 404], stopped);
    },
    remove,
    async isRunning(id) {
      const shown = call(`show ${id}`, StateSchema, (docker) => docker.getContainer(id).inspect());
      return (await unless([404], shown))?.State.Running === true;
    },
  };
}

/** One call of podman's own network API, which dockerode has no method for. `options`: the body of a POST, else the query. */
function libpod(docker: Docker, method: string, path: string, options?: object): Promise<unknown> {
  const statusCodes = { 200: true, 201: true, 204: true };
  const request = {
    path: `/v5.0.0/libpod/networks/${path}`,
    method,
    statusCodes,
    ...(options && { options }),
  };
  return new Promise((resolve, reject) => {
    docker.modem.dial(request, (error: Error | null, reply: unknown) => {
      if (error === null || error === undefined) resolve(reply);
      else reject(error);
    });
  });
}

/** The engine sends a line of JSON for each step. Any line may report a failure, and more lines may follow it. */
async function load(docker: Docker, archive: Readable): Promise<unknown> {
  const reply = await text(await docker.loadImage(archive, { quiet: true }));
  try {
    const lines = reply.split('\n').filter((line) => line.trim() !== '');
    return lines.map((line): unknown => JSON.parse(line));
  } catch (cause) {
    throw new DstackError('ENGINE_REPLY', "podman's reply when asked to load an image is not JSON", {
      cause,
    });
  }
}

function loadProblem({ error, errorDetail }: { error?: unknown; errorDetail?: unknown }): string | undefined {
  const found = [error, errorDetail].filter((value) => value !== undefined && value !== null);
  if (found.length === 0) return undefined;
  return found.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join('; ');
}

function runningAt(id: string, app: string, address: string): Running {
  if (!/^(\d{1,3}\.){3}\d{1,3}$/.test(address)) {
    throw new DstackError('ENGINE_NO_ADDRESS', `the container ${id.slice(0, 12)} of ${app} has no address`);
  }
  return { id, address };
}

const networkName = (app: string): string => `dstack-${app}`;
/** The guest's firewall lets interfaces with this prefix reach the agent; Linux allows 15 characters. */
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
  const { env = {}, command } = spec.container;
  return {
    Image: `sha256:${spec.image}`,
    Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    ...(command === undefined ? {} : { Cmd: command }),
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
