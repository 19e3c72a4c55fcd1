/**
 * Podman behind the Engine interface: dockerode on podman's Docker-compatible socket. Networks go through podman's own
 * API on the same socket, because only that one can name the interface and omit the name server.
 */
import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import type Docker from 'dockerode';
import { type Static, Type } from 'typebox';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  AGENT_PATH,
  type ContainerPlan,
  DATA_PATH,
  HOST_VOLUME_PATH,
  SECRETS_PATH,
} from '../../lib/protocol/manifest.ts';
import { addressOf, BRIDGES, bridgeName, gatewayOf, hardwareAddressOf, RESOLVER } from '../bridges.ts';
import { type Bounds, boundedDocker, unless } from './bounded-docker.ts';
import type { ContainerSpec, Engine, Running, SecretsFolder } from './engine.ts';
import { Numbers } from './numbers.ts';

const LABEL = 'dstack.app';
const MANIFEST_LABEL = 'dstack.manifest';
const CONTAINER_LABEL = 'dstack.container';
const NUMBER_LABEL = 'dstack.number';
/** Of a container that is there to look at an image, and is no app's. */
const LOOK_LABEL = 'dstack.look';
/** Generous, because loading and starting are slow under emulation. */
const BOUNDS: Bounds = { bytes: 4 * 1024 * 1024, milliseconds: 300_000 };

/** How many times as long a pull may take as any other call. */
const PULL_TIMES = 6;
/** How many times as large a list of all containers or images may be: images have up to 32 KiB each in it (image-config.ts). */
const LIST_TIMES = 8;

/** Enough to drop to another user and to bind a low port inside its own network namespace. */
const CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'KILL', 'NET_BIND_SERVICE', 'SETGID', 'SETUID'];
/** Of each container; the engine drops the oldest half of it. */
const LOG_SIZE = '1mb';
/** User and group ids of each container, from 0 up; guest/image/rootfs/etc/subuid has those that they are in the VM. */
const IDS = 65_536;
/** Of each tmpfs that a manifest does not mention. */
const SPARE_MIB = 16;
/** How much of a line is shown, in characters. */
const LOG_LINE = 300;
/** Milliseconds between looks at a command that runs. */
const EXEC_POLL = 100;

const MIB = 1024 * 1024;

const Anything = Type.Unknown();
const Id = Type.String({ pattern: '^[0-9a-f]{64}$' });
const CreatedSchema = Type.Object({ id: Id });
const MadeSchema = Type.Object({ Id });
const ContainersSchema = Type.Array(
  Type.Object({
    Id,
    State: Type.String(),
    Created: Type.Number(),
    Labels: Type.Record(Type.String(), Type.String()),
  }),
);
const ExecutedSchema = Type.Object({
  Running: Type.Boolean(),
  ExitCode: Type.Union([Type.Integer(), Type.Null()]),
});
const ImagesSchema = Type.Array(Type.Object({ Id: Type.String() }));
const ImageSchema = Type.Object({ Id: Type.String() });
/** Podman leaves out what an image does not have, or sends null. */
const ImageConfigSchema = Type.Object({
  Config: Type.Optional(
    Type.Union([
      Type.Null(),
      Type.Object({
        User: Type.Optional(Type.String()),
        Volumes: Type.Optional(Type.Union([Type.Null(), Type.Record(Type.String(), Type.Unknown())])),
      }),
    ]),
  ),
});
/**
 * What of an image the engine reads: who its users are, whenever it starts a container, and the zone of the time at which a command could
 * not be run in one.
 */
const READ_FILES = ['/etc/passwd', '/etc/group', '/etc/localtime'];
/** Podman takes many times as much memory for them. Bytes. */
const READ_MAX_BYTES = 256 * 1024;
/** What podman says of a file, its mode as Go has it; null for none. */
const FileSchema = Type.Union([
  Type.Null(),
  Type.Object({ size: Type.Integer(), mode: Type.Integer(), linkTarget: Type.String() }),
]);
/** Folders, links, devices, FIFOs, sockets and what is nothing of these (io/fs.ModeType). */
const NO_FILE = 0x8f280000;
const LINK = 0x08000000;
/** Of podman's own API: the other has no word for it. */
const ModeSchema = Type.Object({ Config: Type.Object({ SystemdMode: Type.Optional(Type.Boolean()) }) });
const NetworkSchema = Type.Object({
  name: Type.String(),
  network_interface: Type.Optional(Type.String()),
});
const NetworksSchema = Type.Array(NetworkSchema);
type Network = Static<typeof NetworkSchema>;
const StateSchema = Type.Object({
  State: Type.Object({ Running: Type.Boolean(), ExitCode: Type.Optional(Type.Integer()) }),
});
const StartedSchema = Type.Object({
  Config: Type.Object({ Labels: Type.Record(Type.String(), Type.String()) }),
  NetworkSettings: Type.Object({
    Networks: Type.Record(Type.String(), Type.Object({ IPAddress: Type.String() })),
  }),
});
/** Podman's answer to a pull, which has status 200 when it failed, too: any presence of an error counts as one. */
const PulledSchema = Type.Union([
  Type.Object({ error: Type.Unknown() }),
  Type.Object({ id: Type.String({ minLength: 1 }), error: Type.Optional(Type.Unknown()) }),
]);

/** The numbers of bridges. @param now a monotonic clock, in milliseconds */
export const bridgeNumbers = (now: () => number): Numbers => new Numbers({ first: 0, count: BRIDGES }, now);

/** @param socketPath podman's API socket */
export function podman(
  socketPath: string,
  bounds = BOUNDS,
  bridges = bridgeNumbers(() => performance.now()),
): Engine {
  const { call } = boundedDocker(socketPath, bounds);
  // The image comes from the host meanwhile.
  const pulling = boundedDocker(socketPath, { ...bounds, milliseconds: PULL_TIMES * bounds.milliseconds });
  const listing = boundedDocker(socketPath, { ...bounds, bytes: LIST_TIMES * bounds.bytes });

  async function networks() {
    const all = await call('list its networks', NetworksSchema, (docker) => libpod(docker, 'GET', 'json'));
    return all.filter((network) => network.name.startsWith('dstack-'));
  }

  /** Of each container: the command in it that had not ended when it should have. The engine cannot end one. */
  const unended = new Map<string, string>();
  /** Each that hangs is a process of the engine's besides, which is outside of the container's limits: so there is one at most. */
  const stillRuns = async (id: string): Promise<boolean> => {
    const exec = unended.get(id);
    if (exec === undefined) return false;
    const shown = call(`show a command in ${id}`, ExecutedSchema, (docker) => docker.getExec(exec).inspect());
    if ((await unless([404], shown))?.Running === true) return true;
    unended.delete(id);
    return false;
  };

  const imageConfig = async (digest: string) => {
    const { Config } = await call(`show image ${digest}`, ImageConfigSchema, (docker) =>
      docker.getImage(`sha256:${digest}`).inspect(),
    );
    return Config;
  };

  const remove = async (id: string): Promise<void> => {
    unended.delete(id);
    // Killed first: a forced removal alone gives a container that ignores signals ten more seconds.
    const kill = call(`kill ${id}`, Anything, (docker) => docker.getContainer(id).kill({ signal: 'KILL' }));
    await unless([404, 409], kill);
    const removal = call(`remove ${id}`, Anything, (docker) =>
      docker.getContainer(id).remove({ force: true }),
    );
    await unless([404], removal);
  };
  /** What a path of a container's root leads to. */
  const fileAt = async (id: string, path: string): Promise<Static<typeof FileSchema> | undefined> => {
    const look = (at: string) =>
      call(`look at ${path} of an image`, FileSchema, async (docker) => {
        const reply = (await dial(
          docker,
          'HEAD',
          `/containers/${id}/archive?`,
          { path: at },
          true,
        )) as Readable & {
          headers: Record<string, string | undefined>;
        };
        const stat = reply.headers['x-docker-container-path-stat'] ?? '';
        return stat === '' ? null : JSON.parse(Buffer.from(stat, 'base64').toString('utf8'));
      });
    const found = await unless([404], look(path));
    // Of a link it says to where all of them lead.
    return ((found?.mode ?? 0) & LINK) === 0 ? found : unless([404], look(found!.linkTarget));
  };

  /**
   * What podman takes for systemd, by its command alone, gets cgroups that it can write to, tmpfs without a size, and another signal to
   * end; this API cannot tell it not to.
   */
  const assertPlain = async (id: string, name: string): Promise<void> => {
    const made = await call(`show ${id}`, ModeSchema, (docker) =>
      dial(docker, 'GET', `/v5.0.0/libpod/containers/${id}/json?`),
    );
    if (made.Config.SystemdMode !== true) return;
    await remove(id);
    throw new DstackError(
      'IMAGE_SYSTEMD',
      `podman takes the command of container ${name} for systemd, which would get more than its manifest says: name the program otherwise`,
    );
  };

  const removeNetwork = async (network: Network): Promise<void> => {
    const { name } = network;
    const removal = call(`remove the network ${name}`, Anything, (docker) =>
      libpod(docker, 'DELETE', `${name}?`, { force: true }),
    );
    await unless([404], removal);
    bridges.free(indexOf(network));
  };

  return {
    async list() {
      const ours = { all: true, filters: { label: [LABEL] } };
      const all = await listing.call('list its containers', ContainersSchema, (docker) =>
        docker.listContainers(ours),
      );
      return all.map(({ Id: id, State, Created: created, Labels }) => ({
        id,
        app: Labels[LABEL] ?? '',
        manifest: (Labels[MANIFEST_LABEL] ?? '') as Hex,
        container: Labels[CONTAINER_LABEL] ?? '',
        running: State === 'running',
        number: Number(Labels[NUMBER_LABEL] ?? Number.NaN),
        created,
      }));
    },

    async hasImage(digest) {
      const inspection = call(`show image ${digest}`, ImageSchema, (docker) =>
        docker.getImage(`sha256:${digest}`).inspect(),
      );
      const image = await unless([404], inspection);
      return image?.Id.replace(/^sha256:/, '') === digest;
    },

    imageVolumes: async (digest) => Object.keys((await imageConfig(digest))?.Volumes ?? {}),
    imageUser: async (digest) => (await imageConfig(digest))?.User ?? '',

    async assertReadable(digest) {
      const name = `dstack_look_${randomBytes(8).toString('hex')}`;
      // Never started, and with nothing in it but the image.
      const body = {
        image: `sha256:${digest}`,
        name,
        labels: { [LOOK_LABEL]: digest },
        image_volume_mode: 'ignore',
        netns: { nsmode: 'none' },
        entrypoint: ['none'],
      };
      const { Id: id } = await call('make a container to look at an image', MadeSchema, (docker) =>
        dial(docker, 'POST', '/v5.0.0/libpod/containers/create?', { _query: {}, _body: body }),
      );
      try {
        for (const path of READ_FILES) {
          const file = await fileAt(id, path);
          if (file === undefined || file === null) continue;
          if ((file.mode & NO_FILE) === 0 && file.size <= READ_MAX_BYTES) continue;
          throw new DstackError(
            'IMAGE_FILES',
            `${path} of the image is no file of at most ${READ_MAX_BYTES} bytes, and podman would read it`,
          );
        }
      } finally {
        await remove(id);
      }
    },

    async removeLooks() {
      const looks = { all: true, filters: { label: [LOOK_LABEL] } };
      const all = await listing.call('list its containers', ContainersSchema, (docker) =>
        docker.listContainers(looks),
      );
      for (const { Id: id } of all) await remove(id);
    },

    async pullImage(reference) {
      const options = { _query: { reference, policy: 'always', quiet: true, retry: 0 }, _body: {} };
      const pulled = await pulling.call('load an image', PulledSchema, (docker) =>
        dial(docker, 'POST', '/v5.0.0/libpod/images/pull?', options),
      );
      const problem = pullProblem(pulled);
      if (problem !== undefined)
        throw new DstackError('ENGINE_LOAD', `podman cannot load the image: ${problem.slice(0, 300)}`);
    },

    async pruneImages(keep) {
      const all = await listing.call('list its images', ImagesSchema, (docker) =>
        docker.listImages({ all: true }),
      );
      for (const image of all) {
        const digest = image.Id.replace(/^sha256:/, '');
        if (!/^[0-9a-f]{64}$/.test(digest) || keep(digest)) continue;
        const removal = call(`remove image ${digest}`, Anything, (docker) =>
          docker.getImage(digest).remove({ force: true }),
        );
        await unless([404, 409], removal);
      }
    },

    ensureNetwork: oneAtATime(async (app: string) => {
      const name = networkName(app);
      const existing = await networks();
      for (const network of existing) bridges.hold(indexOf(network));
      const found = existing.find((network) => network.name === name);
      if (found !== undefined) return { name, gateway: gatewayOf(indexOf(found)) };
      const index = bridges.take();
      if (index === undefined) {
        throw new DstackError(
          'ENGINE_NETWORKS',
          `of ${BRIDGES} bridges none is free, or not for long enough: the app waits for one`,
        );
      }
      try {
        await call(`make the network ${name}`, Anything, (docker) =>
          libpod(docker, 'POST', 'create', networkRequest(name, index)),
        );
      } catch (error) {
        // If it was made after all, the next look takes it again.
        bridges.free(index);
        throw error;
      }
      return { name, gateway: gatewayOf(index) };
    }),

    async removeNetwork(app) {
      const found = (await networks()).find(({ name }) => name === networkName(app));
      if (found !== undefined) await removeNetwork(found);
    },
    async removeNetworksExcept(apps) {
      const kept = new Set([...apps].map(networkName));
      for (const network of await networks()) if (!kept.has(network.name)) await removeNetwork(network);
    },

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
      await assertPlain(created.id, spec.container.name);
      return created.id;
    },

    async start(id) {
      await unless(
        [304],
        call(`start ${id}`, Anything, (docker) => docker.getContainer(id).start()),
      );
      const found = await call(`show ${id}`, StartedSchema, (docker) => docker.getContainer(id).inspect());
      const app = found.Config.Labels[LABEL] ?? '';
      const address = found.NetworkSettings.Networks[networkName(app)]?.IPAddress ?? '';
      return runningAt(id, app, address, found.Config.Labels[NUMBER_LABEL] ?? '');
    },
    async stop(id, seconds) {
      const stopped = call(`stop ${id}`, Anything, (docker) => docker.getContainer(id).stop({ t: seconds }));
      await unless([304, 404], stopped);
    },
    remove,
    async isRunning(id) {
      const shown = call(`show ${id}`, StateSchema, (docker) => docker.getContainer(id).inspect());
      return (await unless([404], shown))?.State.Running === true;
    },
    async exitCode(id) {
      const shown = call(`show ${id}`, StateSchema, (docker) => docker.getContainer(id).inspect());
      const state = (await unless([404], shown))?.State;
      return state?.Running === false ? state.ExitCode : undefined;
    },

    async runIn(id, command, seconds) {
      if (await stillRuns(id)) return undefined;
      const until = performance.now() + seconds * 1000;
      const made = await call(`prepare a command in ${id}`, CreatedSchema, (docker) =>
        docker.getContainer(id).exec({ Cmd: [...command] }),
      );
      await call(`run a command in ${id}`, Anything, (docker) =>
        dial(docker, 'POST', `/exec/${made.id}/start?`, { Detach: true }),
      );
      for (;;) {
        const { Running, ExitCode } = await call(`show a command in ${id}`, ExecutedSchema, (docker) =>
          docker.getExec(made.id).inspect(),
        );
        if (!Running && ExitCode !== null) return ExitCode;
        if (performance.now() > until) {
          unended.set(id, made.id);
          return undefined;
        }
        await setTimeout(EXEC_POLL);
      }
    },

    async logs(id, lines) {
      const query = { stdout: true, stderr: true, tail: lines };
      const bytes = await call(`show what ${id} wrote`, Type.Unsafe<Buffer>(Anything), async (docker) =>
        buffer((await dial(docker, 'GET', `/containers/${id}/logs?`, query, true)) as Readable),
      );
      return linesOf(bytes).slice(-lines);
    },
  };
}

/** One call of podman's own network API. `options`: the body of a POST, else the query. */
const libpod = (docker: Docker, method: string, path: string, options?: object): Promise<unknown> =>
  dial(docker, method, `/v5.0.0/libpod/networks/${path}`, options);

/** One call that dockerode has no method for. */
function dial(
  docker: Docker,
  method: string,
  path: string,
  options?: object,
  isStream = false,
): Promise<unknown> {
  const statusCodes = { 200: true, 201: true, 204: true };
  const request = { path, method, statusCodes, isStream, ...(options && { options }) };
  return new Promise((resolve, reject) => {
    docker.modem.dial(request, (error: Error | null, reply: unknown) => {
      if (error === null || error === undefined) resolve(reply);
      else reject(error);
    });
  });
}

/** Two apps at once must not be given the same bridge. */
function oneAtATime<A, R>(action: (argument: A) => Promise<R>): (argument: A) => Promise<R> {
  let last: Promise<unknown> = Promise.resolve();
  return (argument) => {
    const next = last.then(() => action(argument));
    last = next.catch(() => undefined);
    return next;
  };
}

/** Of a log as the engine's API frames it (ContainerAttach, "Stream format"): eight bytes of header, of which four are the length. */
function linesOf(framed: Buffer): string[] {
  const parts: Buffer[] = [];
  for (let at = 0; at + 8 <= framed.length; ) {
    const end = at + 8 + framed.readUInt32BE(at + 4);
    parts.push(framed.subarray(at + 8, end));
    at = end;
  }
  return Buffer.concat(parts)
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.slice(0, LOG_LINE));
}

function pullProblem({ error }: { error?: unknown }): string | undefined {
  if (error === undefined || error === null) return undefined;
  return typeof error === 'string' ? error : JSON.stringify(error);
}

/** What it may reach is in its address, so another one than it was to get is none. */
function runningAt(id: string, app: string, address: string, number: string): Running {
  if (!/^(\d{1,3}\.){3}\d{1,3}$/.test(address) || address.split('.')[3] !== number) {
    throw new DstackError(
      'ENGINE_NO_ADDRESS',
      `the container ${id.slice(0, 12)} of ${app} does not have its address, but ${address || 'none'}`,
    );
  }
  return { id, address };
}

const networkName = (app: string): string => `dstack-${app}`;
const indexOf = ({ network_interface: bridge = '' }: Network): number =>
  Number(bridge.replace(/^dstack/, ''));

/** The body for a new network. `isolate` keeps one app's packets from another's bridge. */
export function networkRequest(name: string, index: number): object {
  return {
    name,
    driver: 'bridge',
    network_interface: bridgeName(index),
    subnets: [{ subnet: `10.90.${index}.0/24`, gateway: gatewayOf(index) }],
    dns_enabled: false,
    ipv6_enabled: false,
    options: { isolate: 'true' },
  };
}

/** The body for a new container (Docker Engine API, ContainerCreate). */
export function containerRequest(spec: ContainerSpec): object {
  const { container, network, number } = spec;
  return {
    Image: `sha256:${spec.image}`,
    Env: Object.entries(container.env).map(([name, value]) => `${name}=${value}`),
    ...(container.command === undefined ? {} : { Cmd: container.command }),
    ...(container.user === undefined ? {} : { User: container.user }),
    Labels: {
      [LABEL]: spec.app,
      [MANIFEST_LABEL]: spec.manifest,
      [CONTAINER_LABEL]: container.name,
      [NUMBER_LABEL]: `${number}`,
    },
    // Not the image's own: whether it is well is found out by probe.ts.
    Healthcheck: { Test: ['NONE'] },
    Hostname: spec.name.slice(0, 63),
    NetworkingConfig: {
      EndpointsConfig: {
        [network.name]: {
          IPAMConfig: { IPv4Address: addressOf(network.gateway, number) },
          MacAddress: hardwareAddressOf(number),
        },
      },
    },
    HostConfig: {
      NetworkMode: network.name,
      ExtraHosts: Object.entries({ 'dstack-guest': network.gateway, ...spec.siblings }).map(
        ([name, address]) => `${name}:${address}`,
      ),
      // Itself, for one that reaches nothing: where nobody listens, it hears so at once.
      Dns: [container.egress === 'internet' ? RESOLVER : '127.0.0.1'],
      Binds: mounts(spec),
      // Its root, and every user of it, is nobody in the VM, in a range of ids that no other container has.
      UsernsMode: `auto:size=${IDS}`,
      // The processors are shared by app, however many containers one has.
      CgroupParent: `/dstack-apps/${spec.app}`,
      CapDrop: ['ALL'],
      CapAdd: CAPABILITIES,
      SecurityOpt: ['no-new-privileges'],
      ReadonlyRootfs: true,
      ...limitsOf(container),
      RestartPolicy: { Name: 'no' },
      LogConfig: { Type: 'k8s-file', Config: { 'max-size': LOG_SIZE } },
    },
  };
}

/** On the data disk, ids are those that the container sees: a range of another boot finds its files. */
function mounts({ storage, container, secrets }: ContainerSpec): string[] {
  const { agent, data, volumes, hostVolume } = storage;
  const own = 'nosuid,nodev,idmap';
  return [
    ...(data === undefined || container.data === 'none'
      ? []
      : [`${data}:${DATA_PATH}:${container.data},${own}`]),
    ...Object.entries(volumes).map(([path, folder]) => `${folder}:${path}:rw,${own}`),
    ...(hostVolume === undefined ? [] : [`${hostVolume}:${HOST_VOLUME_PATH}:ro,nosuid,nodev,noexec`]),
    ...(secrets === undefined ? [] : [secretsMount(secrets)]),
    ...(agent === undefined ? [] : [`${agent}:${AGENT_PATH}:ro,nosuid,nodev,noexec`]),
  ];
}

/**
 * This daemon may give a file to nobody, and which range of ids the container will have is not known before it is made. So its
 * own files are shown to the container as those of the container's user (crun(1), "idmap": @ counts as the container does).
 */
function secretsMount({ folder, user }: SecretsFolder): string {
  const [uid, gid] = [process.getuid!(), process.getgid!()];
  return `${folder}:${SECRETS_PATH}:ro,nosuid,nodev,noexec,idmap=uids=@${uid}-${user}-1;gids=@${gid}-0-1`;
}

/** Podman gives a container these even if its root is read-only, as large as half of the machine's memory, unless it is told a size. */
function unasked(volumes: ContainerPlan['volumes']): Record<string, number> {
  const paths = ['/run', '/tmp', '/var/tmp'].filter((path) => !Object.hasOwn(volumes, path));
  return Object.fromEntries(paths.map((path) => [path, SPARE_MIB]));
}

/** What is in a tmpfs, /dev/shm included, counts as memory of the container's cgroup. */
function limitsOf({ memoryMiB, pids, cpuPercent, tmpfs, shmMiB, volumes }: ContainerPlan): object {
  const memory = memoryMiB * MIB;
  return {
    Memory: memory,
    // Together with swap: none on top.
    MemorySwap: memory,
    PidsLimit: pids,
    ...(cpuPercent === undefined ? {} : { NanoCpus: cpuPercent * 10_000_000 }),
    ShmSize: shmMiB * MIB,
    Tmpfs: Object.fromEntries(
      Object.entries({ ...unasked(volumes), ...tmpfs }).map(([path, size]) => [
        path,
        `rw,nosuid,nodev,size=${size}m,mode=1777`,
      ]),
    ),
  };
}
