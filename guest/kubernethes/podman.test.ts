import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { containerRequest, networkRequest, podman } from './podman.ts';

const network = { name: 'dstack-greeting', gateway: '10.90.3.1' };
const image = 'ab'.repeat(32);
const container = { name: 'web', image: `sha256:${image}`, env: { A: '1 2' } };
const spec = { name: 'c', app: 'greeting', image, container, network };

test('a container gets the image by its id, and as little else as possible', () => {
  expect(containerRequest(spec)).toMatchObject({
    Image: `sha256:${'ab'.repeat(32)}`,
    Env: ['A=1 2'],
    HostConfig: {
      NetworkMode: 'dstack-greeting',
      ExtraHosts: ['dstack-guest:10.90.3.1'],
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

test("only the app's own folder is mounted", () => {
  expect(containerRequest({ ...spec, data: '/mnt/encrypted_data/apps/greeting' })).toMatchObject({
    HostConfig: { Binds: ['/mnt/encrypted_data/apps/greeting:/mnt/encrypted_data:rw,nosuid,nodev'] },
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
  const engine = (bounds = { bytes: 4096, milliseconds: 2_000 }) =>
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
    expect(await engine().create(spec)).toBe(ID);
    expect(asked.map(({ call }) => call)).toEqual([
      'POST /containers/c/kill?signal=KILL',
      'DELETE /containers/c?force=true',
      'POST /containers/create?name=c',
    ]);
    expect(JSON.parse(asked[2]!.body)).toEqual(containerRequest(spec));
    expect(asked[2]!.type).toBe('application/json');
  });

  test("starts a container, also one that runs already, and finds its address on its app's network", async () => {
    replies[`POST /containers/${ID}/start`] = [304, undefined];
    const shown = (address: string) => ({
      State: { Running: true },
      Config: { Labels: { 'dstack.app': 'greeting' } },
      NetworkSettings: { Networks: { 'dstack-greeting': { IPAddress: address } } },
    });
    replies[`GET /containers/${ID}/json`] = [200, shown('10.90.3.2')];
    expect(await engine().start(ID)).toEqual({ id: ID, address: '10.90.3.2' });
    expect(await engine().isRunning(ID)).toBe(true);
    replies[`GET /containers/${ID}/json`] = [200, shown('localhost')];
    await expect(engine().start(ID)).rejects.toMatchObject({ code: 'ENGINE_NO_ADDRESS' });
    expect(await engine().isRunning('gone')).toBe(false);
  });

  test('stops one that is gone or stopped', async () => {
    await engine().stop('gone');
    replies[`POST /containers/${ID}/stop`] = [304, undefined];
    await engine().stop(ID);
    expect(asked.at(-1)!.call).toBe(`POST /containers/${ID}/stop?t=3`);
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

  test('clears away what has its label or its prefix', async () => {
    replies['GET /containers/json'] = [200, [{ Id: ID }]];
    replies['GET /v5.0.0/libpod/networks/json'] = [200, [{ name: 'podman' }, { name: 'dstack-a' }]];
    await engine().clear();
    expect(asked.map(({ call }) => call)).toEqual([
      'GET /containers/json?all=true&filters={"label":["dstack.app"]}',
      `POST /containers/${ID}/kill?signal=KILL`,
      `DELETE /containers/${ID}?force=true`,
      'GET /v5.0.0/libpod/networks/json',
      'DELETE /v5.0.0/libpod/networks/dstack-a?force=true',
    ]);
  });

  test('knows an image by its id alone, and removes the others', async () => {
    replies[`GET /images/sha256:${DIGEST}/json`] = [200, { Id: `sha256:${DIGEST}` }];
    expect(await engine().hasImage(DIGEST)).toBe(true);
    replies[`GET /images/sha256:${DIGEST}/json`] = [200, { Id: ID }];
    expect(await engine().hasImage(DIGEST)).toBe(false);
    expect(await engine().hasImage(ID)).toBe(false);
    replies['GET /images/json'] = [200, [{ Id: `sha256:${DIGEST}` }, { Id: `sha256:${ID}` }]];
    await engine().pruneImages(new Set([DIGEST]));
    expect(asked.filter(({ call }) => call.startsWith('DELETE')).map(({ call }) => call)).toEqual([
      `DELETE /images/${ID}?force=true`,
    ]);
  });

  test('streams an archive, and looks at every line of the reply', async () => {
    const archive = () => Readable.from([Buffer.from('some '), Buffer.from('layers')], { objectMode: false });
    replies['POST /images/load'] = (res) => res.end('{"stream":"step"}\n{"stream":"Loaded image"}\n');
    await engine().loadImage(archive());
    expect(asked[0]).toMatchObject({ call: 'POST /images/load?quiet=true', body: 'some layers' });
    replies['POST /images/load'] = (res) => res.end('{"stream":"step"}\n{"error":"no space"}\n');
    await expect(engine().loadImage(archive())).rejects.toMatchObject({ code: 'ENGINE_LOAD' });
    for (const failed of [
      '{"error":"no space"}\n{"stream":"Loaded image"}\n',
      '{"errorDetail":{"message":"no space"}}\n',
      '{"errorDetail":{"code":1,"message":"no space"},"error":"no space"}\n{"stream":"done"}\n',
      '\n{"stream":"step"}\r\n{"errorDetail":{"message":"no space"}}\r\n\r\n{"stream":"done"}',
    ]) {
      replies['POST /images/load'] = (res) => res.end(failed);
      await expect(engine().loadImage(archive()), failed).rejects.toMatchObject({
        code: 'ENGINE_LOAD',
        message: expect.stringContaining('no space'),
      });
    }
    for (const odd of ['{"stream":"step"}\nfatal: no space\n{"stream":"done"}\n', '["x"]\n', '7\n', '\n']) {
      replies['POST /images/load'] = (res) => res.end(odd);
      await expect(engine().loadImage(archive()), odd).rejects.toMatchObject({ code: 'ENGINE_REPLY' });
    }
    replies['POST /images/load'] = (res) => res.end('done');
    await expect(engine().loadImage(archive())).rejects.toMatchObject({ code: 'ENGINE_REPLY' });
    replies['POST /images/load'] = [500, { message: 'no' }];
    await expect(engine().loadImage(archive())).rejects.toMatchObject({ code: 'ENGINE_REFUSED' });
  });

  test('an archive is given up when podman refuses it unread', async () => {
    server.removeAllListeners('request');
    server.on('request', (_, res) => res.writeHead(500).end('{"message":"no"}'));
    const endless = new Readable({ read: () => void setImmediate(() => endless.push(Buffer.alloc(65536))) });
    // Podman hangs up after its refusal; which of the two is noticed first depends on the kernel.
    await expect(engine().loadImage(endless)).rejects.toMatchObject({
      code: expect.stringMatching(/^ENGINE_(REFUSED|UNREACHABLE)$/),
    });
    expect(endless.destroyed).toBe(true);
  });

  test('an archive that breaks off is an error, and podman never sees its end', async () => {
    replies['POST /images/load'] = [200, { stream: 'Loaded image' }];
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from('some');
        throw new Error('the disk is gone');
      })(),
      { objectMode: false },
    );
    await expect(engine().loadImage(broken)).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
      message: expect.stringContaining('the disk is gone'),
    });
    expect(asked.map(({ body }) => body)).not.toContain('some');
  });

  test('a refusal says what was refused, in a few words', async () => {
    replies['GET /images/json'] = [500, { message: `storage ${'x'.repeat(3000)}` }];
    const error = await engine()
      .pruneImages(new Set())
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
    await expect(engine().pruneImages(new Set())).rejects.toMatchObject({ code: 'ENGINE_REPLY' });
  });

  test.each([
    ['GET /images/json', 200],
    ['GET /images/json', 500],
    ['POST /images/load', 200],
    ['POST /images/load', 500],
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
      ? engine().pruneImages(new Set())
      : engine().loadImage(Readable.from([Buffer.from('tar')], { objectMode: false }));
    await expect(reading).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
      message: expect.stringContaining('more than 4096 bytes'),
    });
    expect(sent).toBeLessThan(500);
  });

  test.each([
    ['none', (_: ServerResponse) => {}],
    ['half a', (res: ServerResponse) => void res.writeHead(200, { 'content-length': 100 }).write('[')],
  ])('%s reply is waited for so long and no longer', async (_, answer) => {
    replies['GET /images/json'] = answer;
    const begun = performance.now();
    await expect(engine({ bytes: 4096, milliseconds: 200 }).pruneImages(new Set())).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
      message: expect.stringContaining('0.2 s'),
    });
    expect(performance.now() - begun).toBeLessThan(1_500);
  });

  test.each(['GET /images/json', 'POST /images/load'])(
    'a reply to %s that breaks off is an error at once',
    async (call) => {
      replies[call] = (res) => {
        res.writeHead(200, { 'content-length': 100 }).write('[');
        setTimeout(() => res.destroy(), 20);
      };
      const begun = performance.now();
      const reading = call.startsWith('GET')
        ? engine().pruneImages(new Set())
        : engine().loadImage(Readable.from([Buffer.from('tar')], { objectMode: false }));
      await expect(reading).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
      expect(performance.now() - begun).toBeLessThan(1_000);
    },
  );

  test('no socket is an error that names it', async () => {
    await expect(podman(join(folder, 'none.sock')).clear()).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
      message: expect.stringContaining('none.sock'),
    });
  });

  test("the environment's DOCKER_HOST leads nowhere else", async () => {
    process.env.DOCKER_HOST = 'tcp://127.0.0.1:1';
    try {
      replies['GET /images/json'] = [200, []];
      await engine().pruneImages(new Set());
      expect(asked).toHaveLength(1);
    } finally {
      delete process.env.DOCKER_HOST;
    }
  });
});
