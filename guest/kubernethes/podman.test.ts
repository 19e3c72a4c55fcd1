import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { type ContainerPlan, plansOf } from '../../lib/protocol/manifest.ts';
import { RESOLVER, REST } from '../bridges.ts';
import { bridgeNumbers, containerRequest, networkRequest, podman } from './podman.ts';

const network = { name: 'dstack-greeting', gateway: '10.90.3.1' };
const image = 'ab'.repeat(32);
const planOf = (fields: object): ContainerPlan =>
  plansOf({
    version: 2,
    app: 'greeting',
    containers: [{ name: 'web', image: `sha256:${image}`, env: { A: '1 2' }, ...fields }],
  })[0]!;
const container = planOf({});
const manifest = parseHex('cd'.repeat(32));
const storage = { volumes: {} };
const siblings = { web: '10.90.3.64', db: '10.90.3.130' };
const spec = {
  name: 'c',
  app: 'greeting',
  manifest,
  image,
  container,
  network,
  number: 64,
  siblings,
  storage,
};

test("the agent's folder is mounted to read, and not the socket in it", () => {
  const agent = '/run/dstack/agent/apps/aa';
  const { HostConfig } = containerRequest({ ...spec, storage: { ...storage, agent } }) as {
    HostConfig: { Binds: string[] };
  };
  expect(HostConfig.Binds).toEqual([`${agent}:/var/run/dstack:ro,nosuid,nodev,noexec`]);
});

test('a container gets the image by its id, and as little else as possible', () => {
  expect(containerRequest(spec)).toMatchObject({
    Image: `sha256:${'ab'.repeat(32)}`,
    Env: ['A=1 2'],
    NetworkingConfig: {
      EndpointsConfig: {
        'dstack-greeting': { IPAMConfig: { IPv4Address: '10.90.3.64' }, MacAddress: '02:64:73:74:6b:40' },
      },
    },
    HostConfig: {
      NetworkMode: 'dstack-greeting',
      ExtraHosts: ['dstack-guest:10.90.3.1', 'web:10.90.3.64', 'db:10.90.3.130'],
      Dns: ['127.0.0.1'],
      Binds: [],
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      ReadonlyRootfs: true,
      PidsLimit: expect.any(Number),
      Memory: expect.any(Number),
    },
  });
  const text = JSON.stringify(containerRequest(spec));
  // Raw sockets would let an app use another's address; the other capabilities would let it escape.
  for (const word of ['NET_RAW', 'NET_ADMIN', 'SYS_', 'Privileged', 'Devices'])
    expect(text).not.toContain(word);
});

const FOLDER = '/mnt/encrypted_data/volumes/greeting';

test.each([
  ['none', []],
  ['ro', [`${FOLDER}/data:/mnt/encrypted_data:ro,nosuid,nodev,idmap`]],
  ['rw', [`${FOLDER}/data:/mnt/encrypted_data:rw,nosuid,nodev,idmap`]],
])("of the data disk, only the app's own folder is mounted: data %s", (data, binds) => {
  const own = { data: `${FOLDER}/data`, volumes: {} };
  expect(containerRequest({ ...spec, container: planOf({ data }), storage: own })).toMatchObject({
    HostConfig: { Binds: binds },
  });
  expect(containerRequest({ ...spec, container: planOf({ data }) })).toMatchObject({
    HostConfig: { Binds: [] },
  });
});

test("a volume is mounted where its container wants it; of the host's, only the app's folder, and nothing of it runs", () => {
  const own = { volumes: { '/db': `${FOLDER}/web@aa` }, hostVolume: '/mnt/host_volume/apps/greeting' };
  expect(containerRequest({ ...spec, storage: own })).toMatchObject({
    HostConfig: {
      Binds: [
        `${FOLDER}/web@aa:/db:rw,nosuid,nodev,idmap`,
        '/mnt/host_volume/apps/greeting:/mnt/host_volume:ro,nosuid,nodev,noexec',
      ],
    },
  });
});

test("secrets are mounted as the container's user's own, to read; the request has where they are, and nothing of them", () => {
  const [uid, gid] = [process.getuid!(), process.getgid!()];
  const secrets = { folder: '/var/lib/dstack/kubernethes/secrets/cd/web', user: 1000 };
  expect(containerRequest({ ...spec, secrets })).toMatchObject({
    HostConfig: {
      Binds: [
        `${secrets.folder}:/run/secrets:ro,nosuid,nodev,noexec,idmap=uids=@${uid}-1000-1;gids=@${gid}-0-1`,
      ],
    },
  });
});

test('is nobody in the VM, and shares the processors with other apps as one', () => {
  expect(containerRequest(spec)).toMatchObject({
    HostConfig: { UsernsMode: 'auto:size=65536', CgroupParent: '/dstack-apps/greeting' },
  });
});

test('podman keeps no process for long of a command that has ended', () => {
  const conf = readFileSync(
    join(import.meta.dirname, '../image/rootfs/etc/containers/containers.conf'),
    'utf8',
  );
  const [engine = ''] = conf.split('[engine]').slice(1);
  const seconds = Number(/^exit_command_delay = (\d+)$/m.exec(engine)?.[1]);
  // Long enough for its exit code to be asked for.
  expect(seconds).toBeGreaterThanOrEqual(5);
  expect(seconds).toBeLessThanOrEqual(10);
});

test("podman does none of an image's own health checks, and asks systemd for no timer of them", () => {
  expect(containerRequest(spec)).toMatchObject({ Healthcheck: { Test: ['NONE'] } });
  const unit = join(import.meta.dirname, '../image/rootfs/usr/lib/systemd/system/podman.service');
  expect(readFileSync(unit, 'utf8').split('\n')).toContain('Environment=DISABLE_HC_SYSTEMD=true');
});

test("a container that reaches out asks the node's resolver, and another one nobody", () => {
  const dns = (egress: string) =>
    (containerRequest({ ...spec, container: planOf({ egress }) }) as { HostConfig: { Dns: string[] } })
      .HostConfig.Dns;
  expect(dns('internet')).toEqual([RESOLVER]);
  expect(dns('none')).toEqual(['127.0.0.1']);
});

test('what the manifest says that it may use is what it gets, without swap on top', () => {
  const MiB = 1024 * 1024;
  const plan = planOf({
    memoryMiB: 100,
    pids: 20,
    cpuPercent: 150,
    user: '1000:1001',
    tmpfs: { '/run': 3, '/var/cache': 5 },
    shmMiB: 7,
  });
  const request = containerRequest({ ...spec, container: plan }) as { HostConfig: object };
  expect(request).toMatchObject({
    User: '1000:1001',
    HostConfig: {
      Memory: 100 * MiB,
      MemorySwap: 100 * MiB,
      PidsLimit: 20,
      NanoCpus: 1_500_000_000,
      ShmSize: 7 * MiB,
    },
  });
  expect((request.HostConfig as { Tmpfs: object }).Tmpfs).toEqual({
    '/run': 'rw,nosuid,nodev,size=3m,mode=1777',
    '/var/cache': 'rw,nosuid,nodev,size=5m,mode=1777',
    // Podman makes these anyway: without a size, half of the machine's memory each.
    '/tmp': 'rw,nosuid,nodev,size=16m,mode=1777',
    '/var/tmp': 'rw,nosuid,nodev,size=16m,mode=1777',
  });
});

test("each network has its own isolated bridge under the firewall's prefix", () => {
  expect(networkRequest('dstack-greeting', 3)).toMatchObject({
    network_interface: 'dstack3',
    subnets: [{ subnet: '10.90.3.0/24', gateway: '10.90.3.1' }],
    options: { isolate: 'true' },
  });
});

const ID = 'ef'.repeat(32);
const DIGEST = 'ab'.repeat(32);

describe('over the socket of a podman that is not one', () => {
  let folder: string;
  let server: Server;
  /** What it was asked: method, URL, body. */
  let asked: { call: string; body: string; type: string | undefined }[];
  /** Replies by method and path: a status with a value to send as JSON, or a function that answers. */
  let replies: Record<string, [number, unknown] | ((res: ServerResponse, req: IncomingMessage) => void)>;
  const engine = (bounds = { bytes: 4096, milliseconds: 60_000 }) =>
    podman(join(folder, 'podman.sock'), bounds);

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dstack-podman-'));
    asked = [];
    replies = {};
    server = createServer(async (req, res) => {
      const body = await text(req).catch(() => 'broken off');
      const call = `${req.method} ${decodeURIComponent(req.url ?? '')}`;
      asked.push({ call, body, type: req.headers['content-type'] });
      const reply = replies[call.split('?')[0] ?? ''] ?? [404, { message: 'no such object' }];
      if (typeof reply === 'function') reply(res, req);
      else res.writeHead(reply[0]).end(reply[1] === undefined ? '' : JSON.stringify(reply[1]));
    });
    await new Promise<void>((resolve) => server.listen(join(folder, 'podman.sock'), resolve));
  });
  afterEach(() => {
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true });
  });

  test('makes a container in place of an older one, its settings in the body only', async () => {
    replies['POST /containers/create'] = [201, { Id: ID, Warnings: [] }];
    replies['POST /containers/c/kill'] = [409, { message: 'not running' }];
    replies['DELETE /containers/c'] = [204, undefined];
    replies[`GET /v5.0.0/libpod/containers/${ID}/json`] = [200, { Config: {} }];
    expect(await engine().create(spec)).toBe(ID);
    expect(asked.map(({ call }) => call)).toEqual([
      'POST /containers/c/kill?signal=KILL',
      'DELETE /containers/c?force=true',
      'POST /containers/create?name=c',
      `GET /v5.0.0/libpod/containers/${ID}/json`,
    ]);
    expect(JSON.parse(asked[2]!.body)).toEqual(containerRequest(spec));
    expect(asked[2]!.type).toBe('application/json');
  });

  describe('what it reads of an image by itself', () => {
    const [FILE, FIFO, LINK, FOLDER, DEVICE] = [0o644, 33554852, 134218239, 2147484141, 69206436];
    /** What is at a path: a mode as Go has it, with a size and to where links lead. */
    type At = readonly [mode: number, size?: number, linkTarget?: string];

    const look = async (files: Readonly<Record<string, At>>) => {
      replies['POST /v5.0.0/libpod/containers/create'] = [201, { Id: ID, Warnings: [] }];
      replies[`DELETE /containers/${ID}`] = [204, undefined];
      replies[`HEAD /containers/${ID}/archive`] = (res, req) => {
        const path = new URL(req.url!, 'http://podman').searchParams.get('path')!;
        const [mode, size = 100, linkTarget = path] = files[path] ?? [];
        if (mode === undefined) return void res.writeHead(404).end();
        const stat = Buffer.from(JSON.stringify({ name: 'x', size, mode, linkTarget })).toString('base64');
        res.writeHead(200, { 'x-docker-container-path-stat': stat }).end();
      };
      const said = await engine()
        .assertReadable(DIGEST)
        .then(() => 'accepted', codeOf);
      expect(asked.at(-1)!.call).toBe(`DELETE /containers/${ID}?force=true`);
      return said;
    };

    test.each<[string, Readonly<Record<string, At>>]>([
      ['nothing', {}],
      ['files', { '/etc/passwd': [FILE], '/etc/group': [FILE, 256 * 1024], '/etc/localtime': [FILE] }],
      [
        'a link to one',
        { '/etc/localtime': [LINK, 9, '/usr/share/zoneinfo/UTC'], '/usr/share/zoneinfo/UTC': [FILE] },
      ],
      ['a link to nothing', { '/etc/passwd': [LINK, 9, '/nothing'] }],
    ])('%s is fine', async (_, files) => {
      expect(await look(files)).toBe('accepted');
      expect(JSON.parse(asked[0]!.body)).toMatchObject({
        image: `sha256:${DIGEST}`,
        image_volume_mode: 'ignore',
      });
    });

    test.each<[string, Readonly<Record<string, At>>]>([
      ['a FIFO, at which it would wait for ever', { '/etc/passwd': [FIFO, 0] }],
      ['one for the groups', { '/etc/passwd': [FILE], '/etc/group': [FIFO, 0] }],
      ['one for the zone', { '/etc/localtime': [FIFO, 0] }],
      ['a link to one', { '/etc/group': [LINK, 3, '/f'], '/f': [FIFO, 0] }],
      ['a device', { '/etc/group': [DEVICE, 0] }],
      ['a folder', { '/etc/group': [FOLDER] }],
      ['a large file', { '/etc/group': [FILE, 256 * 1024 + 1] }],
    ])('%s is refused', async (_, files) => {
      expect(await look(files)).toBe('IMAGE_FILES');
    });
  });

  test('makes none whose command podman takes for systemd, which would get more than its manifest says', async () => {
    replies['POST /containers/create'] = [201, { Id: ID, Warnings: [] }];
    replies[`DELETE /containers/${ID}`] = [204, undefined];
    replies[`GET /v5.0.0/libpod/containers/${ID}/json`] = [200, { Config: { SystemdMode: true } }];
    await expect(engine().create(spec)).rejects.toMatchObject({ code: 'IMAGE_SYSTEMD' });
    expect(asked.at(-1)!.call).toBe(`DELETE /containers/${ID}?force=true`);
  });

  test("starts a container, also one that runs already, and finds its address on its app's network", async () => {
    replies[`POST /containers/${ID}/start`] = [304, undefined];
    const shown = (address: string) => ({
      State: { Running: true },
      Config: { Labels: { 'dstack.app': 'greeting', 'dstack.number': '64' } },
      NetworkSettings: { Networks: { 'dstack-greeting': { IPAddress: address } } },
    });
    replies[`GET /containers/${ID}/json`] = [200, shown('10.90.3.64')];
    expect(await engine().start(ID)).toEqual({ id: ID, address: '10.90.3.64' });
    expect(await engine().isRunning(ID)).toBe(true);
    expect(await engine().exitCode(ID)).toBeUndefined();
    // Not one, and one that lets it reach what it may not.
    for (const other of ['localhost', '10.90.3.128']) {
      replies[`GET /containers/${ID}/json`] = [200, shown(other)];
      await expect(engine().start(ID)).rejects.toMatchObject({ code: 'ENGINE_NO_ADDRESS' });
    }
    expect(await engine().isRunning('gone')).toBe(false);
    expect(await engine().exitCode('gone')).toBeUndefined();
    replies[`GET /containers/${ID}/json`] = [200, { State: { Running: false, ExitCode: 137 } }];
    expect(await engine().exitCode(ID)).toBe(137);
  });

  test('stops one that is gone or stopped', async () => {
    await engine().stop('gone', 3);
    replies[`POST /containers/${ID}/stop`] = [304, undefined];
    await engine().stop(ID, 7);
    expect(asked.at(-1)!.call).toBe(`POST /containers/${ID}/stop?t=7`);
  });

  test('takes the first free bridge for a new network, and the one it has for a known one', async () => {
    replies['GET /v5.0.0/libpod/networks/json'] = [
      200,
      [{ name: 'podman' }, { name: 'dstack-other', network_interface: 'dstack0' }],
    ];
    replies['POST /v5.0.0/libpod/networks/create'] = [200, {}];
    expect(await engine().ensureNetwork('greeting')).toEqual({
      name: 'dstack-greeting',
      gateway: '10.90.1.1',
    });
    expect(JSON.parse(asked[1]!.body)).toEqual(networkRequest('dstack-greeting', 1));
    expect(await engine().ensureNetwork('other')).toEqual({ name: 'dstack-other', gateway: '10.90.0.1' });
  });

  test('removes what a look at an image left that was killed, and no other container', async () => {
    replies['GET /containers/json'] = [200, [{ Id: ID, State: 'created', Created: 7, Labels: {} }]];
    await engine().removeLooks();
    expect(asked.map(({ call }) => call)).toEqual([
      'GET /containers/json?all=true&filters={"label":["dstack.look"]}',
      `POST /containers/${ID}/kill?signal=KILL`,
      expect.stringMatching(new RegExp(`^DELETE /containers/${ID}`)),
    ]);
  });

  test('lists what an earlier run made, by its labels', async () => {
    const labels = {
      'dstack.app': 'greeting',
      'dstack.manifest': manifest,
      'dstack.container': 'web',
      'dstack.number': '64',
    };
    const one = { Id: ID, State: 'running', Created: 7, Labels: labels };
    replies['GET /containers/json'] = [200, [one, { ...one, State: 'exited' }, { ...one, Labels: {} }]];
    const found = { id: ID, app: 'greeting', manifest, container: 'web', number: 64, created: 7 };
    expect(await engine().list()).toEqual([
      { ...found, running: true },
      { ...found, running: false },
      { id: ID, app: '', manifest: '', container: '', number: Number.NaN, created: 7, running: true },
    ]);
    expect(asked[0]!.call).toBe('GET /containers/json?all=true&filters={"label":["dstack.app"]}');
    // What it labels a container with is what it finds it by.
    expect(containerRequest(spec)).toMatchObject({ Labels: labels });
  });

  test('removes the networks of no app', async () => {
    replies['GET /v5.0.0/libpod/networks/json'] = [
      200,
      [{ name: 'podman' }, { name: 'dstack-a' }, { name: 'dstack-b' }],
    ];
    await engine().removeNetworksExcept(new Set(['b']));
    expect(asked.map(({ call }) => call)).toEqual([
      'GET /v5.0.0/libpod/networks/json',
      'DELETE /v5.0.0/libpod/networks/dstack-a?force=true',
    ]);
  });

  test("a bridge is nobody's for a while after its app is gone", async () => {
    let time = 0;
    const bridges = bridgeNumbers(() => time);
    const one = podman(join(folder, 'podman.sock'), { bytes: 4096, milliseconds: 2_000 }, bridges);
    let made: { name: string; network_interface: string }[] = [];
    replies['GET /v5.0.0/libpod/networks/json'] = (res) => res.end(JSON.stringify(made));
    replies['POST /v5.0.0/libpod/networks/create'] = (res) => {
      made.push(JSON.parse(asked.at(-1)!.body));
      res.end('{}');
    };
    replies['DELETE /v5.0.0/libpod/networks/dstack-a'] = (res) => {
      made = [];
      res.end('[]');
    };
    expect((await one.ensureNetwork('a')).gateway).toBe('10.90.0.1');
    await one.removeNetwork('a');
    expect((await one.ensureNetwork('b')).gateway).toBe('10.90.1.1');
    // All others were taken meanwhile.
    for (let number = 2; number < 250; number += 1) bridges.hold(number);
    await expect(one.ensureNetwork('c')).rejects.toMatchObject({ code: 'ENGINE_NETWORKS' });
    time += REST;
    expect((await one.ensureNetwork('c')).gateway).toBe('10.90.0.1');
  });

  test('two networks at once get two bridges', async () => {
    const made: object[] = [];
    replies['GET /v5.0.0/libpod/networks/json'] = (res) => res.end(JSON.stringify(made));
    replies['POST /v5.0.0/libpod/networks/create'] = (res) => {
      made.push(JSON.parse(asked.at(-1)!.body));
      res.end('{}');
    };
    const { ensureNetwork } = engine();
    const both = await Promise.all([ensureNetwork('a'), ensureNetwork('b')]);
    expect(both.map(({ gateway }) => gateway)).toEqual(['10.90.0.1', '10.90.1.1']);
  });

  test('runs a command in a container until it has an exit code, and no longer than it may', async () => {
    replies[`POST /containers/${ID}/exec`] = [201, { Id: ID }];
    replies[`POST /exec/${ID}/start`] = [200, undefined];
    let looks = 0;
    replies[`GET /exec/${ID}/json`] = (res) => {
      looks += 1;
      res.end(JSON.stringify(looks < 3 ? { Running: true, ExitCode: 0 } : { Running: false, ExitCode: 4 }));
    };
    expect(await engine().runIn(ID, ['/check', 'a b'], 5)).toBe(4);
    expect(looks).toBe(3);
    expect(JSON.parse(asked[0]!.body)).toEqual({ Cmd: ['/check', 'a b'] });
    replies[`GET /exec/${ID}/json`] = [200, { Running: true, ExitCode: 0 }];
    expect(await engine().runIn(ID, ['/check'], 0.2)).toBeUndefined();
  });

  test('a command that does not end has no second one beside it: each is a process outside of any limit', async () => {
    const other = '7a'.repeat(32);
    for (const id of [ID, other]) replies[`POST /containers/${id}/exec`] = [201, { Id: id }];
    for (const id of [ID, other]) replies[`POST /exec/${id}/start`] = [200, undefined];
    replies[`GET /exec/${ID}/json`] = [200, { Running: true, ExitCode: 0 }];
    replies[`GET /exec/${other}/json`] = [200, { Running: false, ExitCode: 0 }];
    const { runIn } = engine();
    for (let i = 0; i < 3; i++) expect(await runIn(ID, ['/check'], 0.1)).toBeUndefined();
    const begun = () => asked.filter(({ call }) => call.startsWith(`POST /exec/${ID}/start`)).length;
    expect(begun()).toBe(1);
    // That of another container is its own, and one that has ended, or went with its container, is in nobody's way.
    expect(await runIn(other, ['/check'], 0.1)).toBe(0);
    replies[`GET /exec/${ID}/json`] = (res) =>
      begun() === 1
        ? res.writeHead(404).end('{"message":"no such exec session"}')
        : res.end(JSON.stringify({ Running: false, ExitCode: 0 }));
    expect(await runIn(ID, ['/check'], 0.1)).toBe(0);
    expect(begun()).toBe(2);
  });

  test('shows the last lines of both streams, none longer than fits a log', async () => {
    const frame = (stream: number, text: string): Buffer => {
      const header = Buffer.from([stream, 0, 0, 0, 0, 0, 0, 0]);
      header.writeUInt32BE(Buffer.byteLength(text), 4);
      return Buffer.concat([header, Buffer.from(text)]);
    };
    replies[`GET /containers/${ID}/logs`] = (res) =>
      res.end(Buffer.concat([frame(1, 'one\ntw'), frame(2, 'o\n'), frame(1, `${'x'.repeat(1000)}\n`)]));
    expect(await engine().logs(ID, 2)).toEqual(['two', 'x'.repeat(300)]);
    expect(asked[0]!.call).toBe(`GET /containers/${ID}/logs?stdout=true&stderr=true&tail=2`);
    // Cut off within a frame, or no frame at all.
    replies[`GET /containers/${ID}/logs`] = (res) => res.end(frame(1, 'one').subarray(0, 10));
    expect(await engine().logs(ID, 2)).toEqual(['on']);
    replies[`GET /containers/${ID}/logs`] = (res) => res.end('{}');
    expect(await engine().logs(ID, 2)).toEqual([]);
  });

  test('knows an image by its id alone, and removes the others', async () => {
    replies[`GET /images/sha256:${DIGEST}/json`] = [200, { Id: `sha256:${DIGEST}` }];
    expect(await engine().hasImage(DIGEST)).toBe(true);
    replies[`GET /images/sha256:${DIGEST}/json`] = [200, { Id: ID }];
    expect(await engine().hasImage(DIGEST)).toBe(false);
    expect(await engine().hasImage(ID)).toBe(false);
    replies['GET /images/json'] = [200, [{ Id: `sha256:${DIGEST}` }, { Id: `sha256:${ID}` }]];
    await engine().pruneImages((digest) => digest === DIGEST);
    expect(asked.filter(({ call }) => call.startsWith('DELETE')).map(({ call }) => call)).toEqual([
      `DELETE /images/${ID}?force=true`,
    ]);
  });

  test.each([
    [{ Config: { Volumes: { '/data': {}, '/x': {} } } }, ['/data', '/x']],
    [{ Config: { Volumes: null } }, []],
    [{ Config: {} }, []],
    [{}, []],
  ])('of an image %j, the volumes are %j', async (shown, volumes) => {
    replies[`GET /images/sha256:${DIGEST}/json`] = [200, { Id: DIGEST, ...shown }];
    expect(await engine().imageVolumes(DIGEST)).toEqual(volumes);
  });

  const PULL = 'POST /v5.0.0/libpod/images/pull';
  const reference = `127.0.0.1:7650/${'ab'.repeat(16)}@sha256:${'cd'.repeat(32)}`;

  test('pulls an image by its reference, at once or not at all', async () => {
    replies[PULL] = [200, { images: [DIGEST], id: DIGEST }];
    await engine().pullImage(reference);
    expect(asked[0]!.call).toBe(`${PULL}?reference=${reference}&policy=always&quiet=true&retry=0`);
  });

  test.each([
    ['ENGINE_LOAD', { error: 'no space' }],
    ['ENGINE_LOAD', { error: { message: 'no space' } }],
    ['ENGINE_LOAD', { id: DIGEST, error: 'no space' }],
    ['ENGINE_REPLY', {}],
    ['ENGINE_REPLY', { id: '' }],
    ['ENGINE_REPLY', ['no space']],
    ['ENGINE_REPLY', undefined],
  ])('podman says 200 to a pull that failed: %s for %j', async (code, reply) => {
    replies[PULL] = [200, reply];
    await expect(engine().pullImage(reference)).rejects.toMatchObject({
      code,
      ...(code === 'ENGINE_LOAD' && { message: expect.stringContaining('no space') }),
    });
  });

  test('a pull may take longer than other calls, and not for ever', async () => {
    replies[PULL] = (res) => void setTimeout(() => res.end(JSON.stringify({ id: DIGEST })), 300);
    await engine({ bytes: 4096, milliseconds: 200 }).pullImage(reference);
    replies[PULL] = () => {};
    await expect(engine({ bytes: 4096, milliseconds: 50 }).pullImage(reference)).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
    });
  });

  test('a refusal says what was refused, in a few words', async () => {
    replies['GET /images/json'] = [500, { message: `storage ${'x'.repeat(3000)}` }];
    const error = await engine()
      .pruneImages(() => false)
      .catch((reason) => reason);
    expect(error).toMatchObject({ code: 'ENGINE_REFUSED', status: 500 });
    expect(error.message).toContain('podman refused to list its images');
    expect(error.message).toContain('storage');
    expect(error.message.length).toBeLessThan(400);
  });

  test.each([
    ['another form', (res: ServerResponse) => res.end('[{"Id":7}]')],
    ['no JSON', (res: ServerResponse) => res.end('nothing')],
    ['no body', (res: ServerResponse) => res.end()],
  ])('a reply of %s is refused', async (_, answer) => {
    replies['GET /images/json'] = answer;
    await expect(engine().pruneImages(() => false)).rejects.toMatchObject({ code: 'ENGINE_REPLY' });
  });

  test.each([
    ['GET /images/json', 200],
    ['GET /images/json', 500],
    ['POST /v5.0.0/libpod/images/pull', 200],
    ['POST /v5.0.0/libpod/images/pull', 500],
  ])('a reply to %s with status %i that is too large is not read to its end', async (call, status) => {
    let sent = 0;
    replies[call] = (res) => {
      res.writeHead(status);
      const flood = setInterval(() => {
        sent += 1;
        res.write(Buffer.alloc(1024, ' '));
      }, 1);
      res.on('close', () => clearInterval(flood));
    };
    const reading = call.startsWith('GET')
      ? engine().pruneImages(() => false)
      : engine().pullImage(reference);
    await expect(reading).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
      message: expect.stringContaining(`more than ${call.startsWith('GET') ? 32768 : 4096} bytes`),
    });
    expect(sent).toBeLessThan(500);
  });

  test('a list of everything may be larger than what is said of one', async () => {
    const filler = 'x'.repeat(10_000);
    replies['GET /images/json'] = [200, [{ Id: `sha256:${'ab'.repeat(32)}`, Labels: { filler } }]];
    await engine().pruneImages(() => true);
    replies['GET /containers/json'] = [
      200,
      [{ Id: 'ab'.repeat(32), State: 'running', Created: 1, Labels: { 'dstack.app': 'greeting', filler } }],
    ];
    expect(await engine().list()).toMatchObject([{ app: 'greeting' }]);
  });

  test.each([
    ['none', (_: ServerResponse) => {}],
    ['half a', (res: ServerResponse) => void res.writeHead(200, { 'content-length': 100 }).write('[')],
  ])('%s reply is waited for so long and no longer', async (_, answer) => {
    replies['GET /images/json'] = answer;
    const begun = performance.now();
    await expect(engine({ bytes: 4096, milliseconds: 200 }).pruneImages(() => false)).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
      message: expect.stringContaining('0.2 s'),
    });
    expect(performance.now() - begun).toBeLessThan(20_000);
  });

  test.each(['GET /images/json', 'POST /v5.0.0/libpod/images/pull'])(
    'a reply to %s that breaks off is an error at once',
    async (call) => {
      replies[call] = (res) => {
        res.writeHead(200, { 'content-length': 100 }).write('[');
        setTimeout(() => res.destroy(), 20);
      };
      const begun = performance.now();
      const reading = call.startsWith('GET')
        ? engine().pruneImages(() => false)
        : engine().pullImage(reference);
      await expect(reading).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
      expect(performance.now() - begun).toBeLessThan(30_000);
    },
  );

  test('no socket is an error that names it', async () => {
    await expect(podman(join(folder, 'none.sock')).list()).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
      message: expect.stringContaining('none.sock'),
    });
  });

  test("the environment's DOCKER_HOST leads nowhere else", async () => {
    process.env.DOCKER_HOST = 'tcp://127.0.0.1:1';
    try {
      replies['GET /images/json'] = [200, []];
      await engine().pruneImages(() => false);
      expect(asked).toHaveLength(1);
    } finally {
      delete process.env.DOCKER_HOST;
    }
  });
});
