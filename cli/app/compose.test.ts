import { describe, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { formatManifest } from '../../lib/protocol/manifest.ts';
import { COMPOSE_MAX_BYTES, manifestOfCompose } from './compose.ts';

const digest = 'ab'.repeat(32);
const images = new Map([['web', digest]]);
const of = (text: string, packed: ReadonlyMap<string, string> = images) =>
  manifestOfCompose('shop', text, packed);
const web = (settings: string): string => `services:\n  web:\n    image: shop\n${settings}`;

function refusal(text: string, packed = images): string {
  try {
    of(text, packed);
    return 'accepted';
  } catch (error) {
    return `${codeOf(error)}: ${(error as Error).message}`;
  }
}

test('a $ is as in Compose, or refused: no variable is taken from a shell', () => {
  const { containers } = of(
    web('    command: [sh, -c, "echo $$HOME $$$$"]\n    environment: {COST: "5$$"}\n'),
  );
  expect(containers[0]).toMatchObject({ command: ['sh', '-c', 'echo $HOME $$'], env: { COST: '5$' } });
  for (const text of ['HOME', '{HOME}', '{HOME:-x}', '', '$$HOME'])
    expect(refusal(web(`    environment: {A: 'a$${text}'}\n`))).toMatch(
      /^COMPOSE_UNSUPPORTED: services\.web\.environment\.A is not supported: it has a \$/,
    );
  expect(refusal(web('    command: [a, "$B"]\n'))).toContain('services.web.command[1] is not supported');
});

test('a number is as it is written, in no other base and of no other precision', () => {
  const { containers } = of(
    web(
      '    environment: {A: 1.10, B: 12345678901234567890, C: 0x1F, D: 010, E: 1e3, F: 7}\n    cpus: 0.50\n',
    ),
  );
  expect(containers[0]!.env).toEqual({
    A: '1.10',
    B: '12345678901234567890',
    C: '0x1F',
    D: '010',
    E: '1e3',
    F: '7',
  });
  expect(containers[0]!.cpuPercent).toBe(50);
  // In YAML 1.1 this is a number to the base of 60.
  expect(of(`%YAML 1.1\n---\n${web('    ports: [443:22]\n')}`).containers[0]!.http).toEqual({ port: 22 });
  expect(refusal(web('    pids_limit: 0x10\n'))).toContain('is not a whole number');
});

test('a file of several documents is called so', () => {
  expect(refusal(`${web('')}---\na: b\n`)).toContain('several documents (---), and a Compose file is one');
});

test('a list within itself, or lists without end, are refused in words', () => {
  for (const text of ['a: &a [*a]\n', 'a: &a {b: *a}\n', `a: ${'['.repeat(200)}${']'.repeat(200)}\n`])
    expect(refusal(text)).toContain('nests deeper than 32, or is within itself');
});

test('every supported setting becomes its field, and a manifest that nodes take', () => {
  const manifest = of(
    `
name: shop
version: "3.9"
services:
  web:
    image: shop/web:1.2
    command: ["/serve", "--verbose"]
    environment:
      - WORD=a=b
      - EMPTY=
    user: 1000:1000
    mem_limit: 256m
    pids_limit: 64
    cpus: 0.5
    shm_size: 16777216
    tmpfs: /run:size=16m
    stop_grace_period: 1m
    ports: ["443:8080"]
    read_only: true
    restart: unless-stopped
    healthcheck:
      interval: 10s
      timeout: 2s
      retries: 4
      start_period: 1m
    x-dstack-health-path: /healthz
    x-dstack-egress: internet
    x-dstack-update: beside
    x-dstack-logs: public
  db:
    image: sha256:${'cd'.repeat(32)}
    environment:
      PORT: 5432
      DEBUG: true
    tmpfs:
      - /run:size=1gb
      - /var/cache:size=2048k
    volumes: ["data:/mnt/encrypted_data:ro"]
    x-dstack-volumes: ["/var/lib/db:size=2g", "/var/log:size=16m"]
    x-dstack-host-volume: ro
    restart: no
    healthcheck: {test: [CMD, pg_isready]}
  job:
    image: sha256:${'cd'.repeat(32)}
    healthcheck: {test: [CMD, /check, "a b"]}
    x-dstack-http: [{domain: job.example, port: 80, protocol: h2c}]
    x-dstack-api: [info, key]
volumes:
  data:
`,
  );
  expect(manifest).toEqual({
    version: 2,
    app: 'shop',
    containers: [
      {
        name: 'web',
        image: `sha256:${digest}`,
        command: ['/serve', '--verbose'],
        env: { WORD: 'a=b', EMPTY: '' },
        user: '1000:1000',
        memoryMiB: 256,
        pids: 64,
        cpuPercent: 50,
        shmMiB: 16,
        tmpfs: { '/run': 16 },
        stopSeconds: 60,
        http: { port: 8080 },
        health: { http: '/healthz', intervalSeconds: 10, timeoutSeconds: 2, retries: 4, startSeconds: 60 },
        egress: 'internet',
        update: 'beside',
        logs: 'public',
      },
      {
        name: 'db',
        image: `sha256:${'cd'.repeat(32)}`,
        env: { PORT: '5432', DEBUG: 'true' },
        tmpfs: { '/run': 1024, '/var/cache': 2 },
        data: 'ro',
        volumes: { '/var/lib/db': 2048, '/var/log': 16 },
        hostVolume: 'ro',
        restart: 'no',
        health: { exec: ['pg_isready'] },
      },
      {
        name: 'job',
        image: `sha256:${'cd'.repeat(32)}`,
        health: { exec: ['/check', 'a b'] },
        http: [{ domain: 'job.example', port: 80, protocol: 'h2c' }],
        api: ['info', 'key'],
      },
    ],
  });
  expect(formatManifest(manifest).length).toBeGreaterThan(100);
});

describe('what is not in the subset is refused by its name', () => {
  test.each([
    ['networks: {}\nservices: {}', 'networks'],
    ['services: {}\nvolumes: {data: {driver: local}}', 'volumes'],
    ['include: [other.yml]\nservices: {}', 'include'],
    [web('    build: .'), 'services.web.build'],
    [web('    privileged: true'), 'services.web.privileged'],
    [web('    entrypoint: [x]'), 'services.web.entrypoint'],
    [web('    deploy: {resources: {limits: {memory: 1g}}}'), 'services.web.deploy'],
    [web('    depends_on: [db]'), 'services.web.depends_on'],
    [web('    env_file: .env'), 'services.web.env_file'],
    [web('    constructor: x'), 'services.web.constructor'],
    [web('    __proto__: {user: 0}'), 'services.web.__proto__'],
    [web('    <<: {user: 0}'), 'services.web.<<'],
    [web('    command: serve --verbose'), 'services.web.command'],
    [web('    environment: [HOME]'), 'services.web.environment.HOME'],
    [web('    environment: {HOME: }'), 'services.web.environment.HOME'],
    [web('    mem_limit: 1000k'), 'services.web.mem_limit'],
    [web('    stop_grace_period: 1.5s'), 'services.web.stop_grace_period'],
    [web('    tmpfs: /run'), 'services.web.tmpfs'],
    [web('    ports: ["8080:8080"]'), 'services.web.ports'],
    [web('    ports: ["443:80", "443:81"]'), 'services.web.ports'],
    [
      web('    x-dstack-http: [{domain: a.example, port: 80, protocol: http1}]\n    ports: ["443:80"]'),
      'services.web.ports',
    ],
    [web('    volumes: ["./src:/mnt/encrypted_data"]'), 'services.web.volumes'],
    [web('    volumes: ["data:/data"]'), 'services.web.volumes'],
    [web('    volumes: ["data:/mnt/encrypted_data:z"]'), 'services.web.volumes'],
    [web('    healthcheck: {disable: true}'), 'services.web.healthcheck.disable'],
    [web('    healthcheck: {test: [CMD-SHELL, check]}'), 'services.web.healthcheck.test'],
    [web('    healthcheck: {test: [NONE]}'), 'services.web.healthcheck.test'],
    [web('    healthcheck: {test: curl localhost}'), 'services.web.healthcheck.test'],
    [web('    read_only: false'), 'services.web.read_only'],
    [web('    restart: on-failure:3'), 'services.web.restart'],
    [web('    restart: no-thing'), 'services.web.restart'],
    ['services: {other: {image: shop}}', 'services.other.image'],
  ])('%j: %s', (text, name) => {
    expect(refusal(text, text.includes('other:') ? new Map() : images)).toMatch(
      new RegExp(`^COMPOSE_UNSUPPORTED: ${name.replace(/[.<]/g, '\\$&')} is not supported: `),
    );
  });
});

describe('secrets', () => {
  const file = (secrets: string, services = 'secrets: [db, api_key]'): string =>
    `${web(`    ${services}`)}\nsecrets:\n${secrets}`;
  const both = '  db: {file: ./db.txt}\n  api_key: {external: true}\n';
  const refused = (text: string, ...sealed: string[]): string => {
    try {
      manifestOfCompose('shop', text, images, new Set(sealed));
      return 'accepted';
    } catch (error) {
      return `${codeOf(error)}: ${(error as Error).message}`;
    }
  };

  test('go to the services that name them, wherever their values come from', () => {
    const manifest = manifestOfCompose('shop', file(both), images, new Set(['db', 'api_key']));
    expect(manifest.containers[0]?.secrets).toEqual(['db', 'api_key']);
    // Which envelopes they are is for who calls it.
    expect(manifest.secrets).toBeUndefined();
  });

  test.each([
    '{source: db}',
    '{source: db, target: db}',
    '{source: db, target: /run/secrets/db, mode: 0400}',
    '{source: db, mode: 0o400, gid: "0"}',
    '{source: db, mode: "0400", uid: "1000", gid: 0}',
    '{source: db, uid: 1000, mode: 256}',
  ])('%s is what a container has anyway', (long) => {
    const text = file(both, `user: "1000:7"\n    secrets: [${long}, api_key]`);
    const manifest = manifestOfCompose('shop', text, images, new Set(['db', 'api_key']));
    expect(manifest.containers[0]?.secrets).toEqual(['db', 'api_key']);
    expect(refused(text.replace('"1000:7"', '"100:1000"'), 'db', 'api_key')).toMatch(
      long.includes('uid') ? /^COMPOSE_UNSUPPORTED: services\.web\.secrets\[0\]\.uid / : /^accepted$/,
    );
  });

  test('each needs an envelope, and the refusal says how to make it', () => {
    expect(refused(file(both), 'api_key')).toMatch(
      /^COMPOSE_UNSUPPORTED: secrets\.db .*npx dstack app secret set shop db --file \.\/db\.txt .*--secret db=FILE$/,
    );
    expect(refused(file(both), 'db')).toContain('app secret set shop api_key …');
    expect(refused(file(both), 'db', 'api_key', 'other')).toMatch(/^COMPOSE_MALFORMED: .*other/);
  });

  test.each([
    ['  db: {environment: PASSWORD}', 'secrets: [db]', 'secrets.db'],
    ['  db: {external: false}', 'secrets: [db]', 'secrets.db'],
    ['  db: {external: true, name: other}', 'secrets: [db]', 'secrets.db'],
    ['  db: {external: true, file: x}', 'secrets: [db]', 'secrets.db'],
    ['  db: {}', 'secrets: [db]', 'secrets.db'],
    ['  db: {external: true}', 'secrets: [{source: db, target: x}]', 'services.web.secrets[0].target'],
    ['  db: {external: true}', 'secrets: [{source: db, target: /etc/db}]', 'services.web.secrets[0].target'],
    ['  db: {external: true}', 'secrets: [db, {target: db}]', 'services.web.secrets[1].source'],
    ['  db: {external: true}', 'secrets: [{source: db, mode: 0440}]', 'services.web.secrets[0].mode'],
    // Nine bits in decimal are others.
    ['  db: {external: true}', 'secrets: [{source: db, mode: 400}]', 'services.web.secrets[0].mode'],
    ['  db: {external: true}', 'secrets: [{source: db, uid: "1000"}]', 'services.web.secrets[0].uid'],
    ['  db: {external: true}', 'secrets: [{source: db, gid: "1000"}]', 'services.web.secrets[0].gid'],
    [
      '  db: {external: true}',
      'secrets: [{source: db, constructor: x}]',
      'services.web.secrets[0].constructor',
    ],
    ['  db: {external: true}', 'secrets: db', 'services.web.secrets'],
  ])('%s with %s is not supported', (secrets, services, at) => {
    expect(refused(file(secrets, services), 'db')).toMatch(
      new RegExp(`^COMPOSE_UNSUPPORTED: ${at.replace(/[.[\]]/g, '\\$&')} is not supported: `),
    );
  });
});

test.each([
  ['services: [web]', 'services is not a mapping'],
  ['web', 'the file is not a mapping'],
  ['services: {web: }', 'services.web is not a mapping'],
  ['services:\n  web: {image: a}\n  web: {image: b}', 'not YAML that can be read'],
  ['services: {web: {image: *nowhere}}', 'not YAML that can be read'],
  ['services: !!js/function x', 'not YAML that can be read'],
  [
    'a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]',
    'not YAML',
  ],
  [web('    pids_limit: many'), 'services.web.pids_limit'],
  [web('    cpus: fast'), 'services.web.cpus'],
  [web('    shm_size: -1'), 'services.web.shm_size'],
  [`# ${'x'.repeat(COMPOSE_MAX_BYTES)}\nservices: {}`, 'more than'],
  ['services: {}', 'archive for web'],
  [web('').replace('image: shop', `image: sha256:${'ef'.repeat(32)}`), 'its archive holds'],
])('%j is malformed', (text, why) => {
  expect(refusal(text)).toMatch(/^COMPOSE_MALFORMED: /);
  expect(refusal(text)).toContain(why);
});

test.each([
  ['build: .', '--archive SERVICE=FILE'],
  ['depends_on: [db]', 'leave it out'],
  ['env_file: .env', 'environment'],
  ['networks: [back]', "service's name"],
  ['deploy: {}', 'mem_limit'],
  ['entrypoint: [/x]', 'Dockerfile'],
  ['privileged: true', 'leave it out'],
])('%s, which most files have, is refused with what stands in its place', (setting, what) => {
  const text = `services:\n  web:\n    image: sha256:${'ab'.repeat(32)}\n    ${setting}\n`;
  const refused = () => manifestOfCompose('shop', text, new Map());
  expect(refused).toThrow(`services.web.${setting.split(':')[0]} is not supported`);
  expect(refused).toThrow(what);
});
