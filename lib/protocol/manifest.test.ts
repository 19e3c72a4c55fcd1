import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from './encoding.ts';
import { codeOf } from './errors.ts';
import {
  appId,
  appName,
  domainsOf,
  formatManifest,
  MANIFEST_MAX_BYTES,
  type Manifest,
  manifestHash,
  parseManifest,
  plansOf,
  secretsOf,
  signerPartOf,
} from './manifest.ts';

const image = `sha256:${'ab'.repeat(32)}`;
const greeting: Manifest = {
  version: 1,
  app: 'greeting',
  containers: [{ name: 'web', image, env: { B: '2', A: 'ö' }, http: { port: 8080 } }],
};

const refusal = (bytes: Uint8Array | string): string => {
  try {
    parseManifest(typeof bytes === 'string' ? utf8(bytes) : bytes);
  } catch (error) {
    return codeOf(error);
  }
  return 'accepted';
};

const text = (value: object): string => new TextDecoder().decode(formatManifest(value as Manifest));

describe('manifest', () => {
  test('has one canonical form and hash', () => {
    const bytes = formatManifest(greeting);
    expect(new TextDecoder().decode(bytes)).toBe(
      `{"app":"greeting","containers":[{"env":{"A":"ö","B":"2"},"http":{"port":8080},"image":"${image}","name":"web"}],"version":1}`,
    );
    expect(toHex(manifestHash(bytes))).toBe(
      'a586676a5a014ae95d4a35e36870cec899072ad58811b61dc4e1665104747e82',
    );
    expect(parseManifest(bytes)).toEqual(greeting);
  });

  test('other spellings of the same content are refused', () => {
    const canonical = text(greeting);
    expect(refusal(canonical)).toBe('accepted');
    expect(refusal(`${canonical}\n`)).toBe('MANIFEST_NOT_CANONICAL');
    expect(refusal(canonical.replace('"version":1', '"version":1.0'))).toBe('MANIFEST_NOT_CANONICAL');
    expect(refusal(canonical.replace('"version":1', '"version":1,"version":1'))).toBe(
      'MANIFEST_NOT_CANONICAL',
    );
    expect(refusal(canonical.replace('"app":"greeting"', '"app":"other","app":"greeting"'))).toBe(
      'MANIFEST_NOT_CANONICAL',
    );
    expect(refusal(canonical.replace('"B":"2"', '"B":"\\u0032"'))).toBe('MANIFEST_NOT_CANONICAL');
    expect(refusal(`\ufeff${canonical}`)).toBe('MANIFEST_MALFORMED');
    expect(refusal(Uint8Array.of(0xff, ...utf8(canonical)))).toBe('MANIFEST_MALFORMED');
  });

  test.each([
    ['an unknown field', { ...greeting, privileged: true }],
    ['an unknown container field', { ...greeting, containers: [{ name: 'a', image, privileged: true }] }],
    ['a tag instead of a digest', { ...greeting, containers: [{ name: 'a', image: 'nginx:latest' }] }],
    [
      'an upper-case digest',
      { ...greeting, containers: [{ name: 'a', image: `sha256:${'AB'.repeat(32)}` }] },
    ],
    ['no container', { ...greeting, containers: [] }],
    ['no version', { ...greeting, version: undefined }],
    ['a version that is no number', { ...greeting, version: '1' }],
    ['a path as app', { ...greeting, app: '../x' }],
    ['an app that ends in a hyphen', { ...greeting, app: 'x-' }],
    ['an app of 32 letters', { ...greeting, app: 'x'.repeat(32) }],
    [
      'a variable with an equals sign',
      { ...greeting, containers: [{ name: 'a', image, env: { 'A=B': '' } }] },
    ],
    ['a NUL in a variable', { ...greeting, containers: [{ name: 'a', image, env: { A: '\0' } }] }],
    ['a port of 0', { ...greeting, containers: [{ name: 'a', image, http: { port: 0 } }] }],
    ['an empty command', { ...greeting, containers: [{ name: 'a', image, command: [] }] }],
    ['nothing', null],
  ])('refuses %s', (_what, value) => {
    expect(refusal(JSON.stringify(value))).toBe('MANIFEST_MALFORMED');
  });

  test('a version of a later release is called so', () => {
    expect(refusal(text({ ...greeting, version: 1 }).replace('"version":1', '"version":3'))).toBe(
      'MANIFEST_VERSION',
    );
  });

  test('refuses what no container engine could run', () => {
    const twice = {
      ...greeting,
      containers: [
        { image, name: 'a' },
        { image, name: 'a' },
      ],
    };
    expect(refusal(JSON.stringify(twice).replace(/^\{"version":1,(.*)\}$/, '{$1,"version":1}'))).toBe(
      'MANIFEST_CONTAINERS',
    );
    for (const name of ['dstack-guest', 'localhost']) {
      expect(refusal(`{"app":"x","containers":[{"image":"${image}","name":"${name}"}],"version":1}`)).toBe(
        'MANIFEST_CONTAINERS',
      );
    }
    const fronts = ['a', 'b'].map((name) => ({ http: { port: 80 }, image, name }));
    expect(refusal(`{"app":"x","containers":${JSON.stringify(fronts)},"version":1}`)).toBe(
      'MANIFEST_CONTAINERS',
    );
  });

  test('a large one is refused before it is parsed', () => {
    expect(refusal(new Uint8Array(MANIFEST_MAX_BYTES + 1))).toBe('MANIFEST_TOO_LARGE');
  });

  test('arbitrary bytes and JSON never get through, nor throw anything untyped', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => refusal(bytes) === 'MANIFEST_MALFORMED'),
    );
    fc.assert(fc.property(fc.json(), (json) => refusal(json) === 'MANIFEST_MALFORMED'));
  });

  test('any content survives the way to bytes and back', () => {
    const variable = fc
      .stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,20}$/)
      .filter((name) => name !== '__proto__');
    const env = fc.dictionary(
      variable,
      fc.string({ unit: 'grapheme' }).filter((s) => !s.includes('\0')),
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(env, (env) => {
        const manifest: Manifest = { version: 1, app: 'a', containers: [{ name: 'a', image, env }] };
        expect(parseManifest(formatManifest(manifest))).toEqual(manifest);
      }),
    );
  });
});

describe('manifest version 2', () => {
  const full = {
    name: 'web',
    image,
    command: ['/serve'],
    memoryMiB: 64,
    pids: 32,
    cpuPercent: 50,
    user: '1000:1000',
    tmpfs: { '/run/app': 8 },
    shmMiB: 4,
    data: 'ro' as const,
    hostVolume: 'ro' as const,
    egress: 'internet' as const,
    stopSeconds: 10,
    health: { exec: ['/check'], intervalSeconds: 10 },
    update: 'beside' as const,
    restart: 'on-failure' as const,
    logs: 'public' as const,
  };
  const of = (container: object) => ({ version: 2, app: 'greeting', containers: [container] });

  test('has a canonical form, which says each limit', () => {
    const bytes = formatManifest(of(full) as Manifest);
    expect(parseManifest(bytes)).toEqual(of(full));
    expect(new TextDecoder().decode(bytes)).toBe(
      `{"app":"greeting","containers":[{"command":["/serve"],"cpuPercent":50,"data":"ro","egress":"internet","health":{"exec":["/check"],"intervalSeconds":10},"hostVolume":"ro","image":"${image}","logs":"public","memoryMiB":64,"name":"web","pids":32,"restart":"on-failure","shmMiB":4,"stopSeconds":10,"tmpfs":{"/run/app":8},"update":"beside","user":"1000:1000"}],"version":2}`,
    );
  });

  test('what is left out has a meaning; a version-1 container writes to the disk, one of version 2 has to ask', () => {
    const defaults = {
      env: {},
      memoryMiB: 512,
      pids: 256,
      tmpfs: { '/tmp': 64 },
      shmMiB: 64,
      volumes: {},
      hostVolume: 'none',
      secrets: [],
      stopSeconds: 3,
      update: 'replace',
      restart: 'always',
      logs: 'private',
      http: [],
    };
    const plan = { ...defaults, name: 'web', image: 'ab'.repeat(32) };
    expect(plansOf(of({ name: 'web', image }) as Manifest)).toEqual([
      { ...plan, data: 'none', egress: 'none', api: [] },
    ]);
    expect(plansOf({ version: 1, app: 'x', containers: [{ name: 'web', image }] })).toEqual([
      { ...plan, data: 'rw', egress: 'internet', api: ['info', 'key', 'attest'] },
    ]);
    const health = {
      exec: ['/check'],
      intervalSeconds: 10,
      timeoutSeconds: 5,
      retries: 3,
      startSeconds: 120,
    };
    expect(plansOf(of(full) as Manifest)).toEqual([
      { ...defaults, ...full, health, api: [], image: 'ab'.repeat(32) },
    ]);
  });

  test('version 2 may ask to sign and to quote; version 1 asks for what there was when it was', () => {
    const api = ['quote', 'sign', 'info'];
    expect(
      plansOf(parseManifest(formatManifest(of({ name: 'web', image, api }) as Manifest)))[0]!.api,
    ).toEqual(['info', 'sign', 'quote']);
    expect(plansOf({ version: 1, app: 'x', containers: [{ name: 'web', image }] })[0]!.api).toEqual([
      'info',
      'key',
      'attest',
    ]);
  });

  test('websites of an app, each by its domain; and the form of version 1', () => {
    const http = [
      { domain: 'shop.example', port: 80, protocol: 'http1' as const },
      { domain: 'xn--bcher-kva.example', port: 81, protocol: 'h2c' as const },
      { domain: 'a-1.b--c.shop.example', port: 80, protocol: 'http1' as const },
      { domain: `${'abc.'.repeat(62)}defgh`, port: 80, protocol: 'http1' as const },
    ];
    const manifest = parseManifest(formatManifest(of({ ...full, http, api: ['attest', 'key'] }) as Manifest));
    expect(plansOf(manifest)[0]).toMatchObject({ http, api: ['key', 'attest'] });
    expect(domainsOf(manifest)).toEqual(http.map(({ domain }) => domain));
    const website = parseManifest(formatManifest(of({ ...full, http: { port: 80 } }) as Manifest));
    expect(plansOf(website)[0]!.http).toEqual([{ domain: undefined, port: 80, protocol: 'http1' }]);
    expect(domainsOf(website)).toEqual([]);
  });

  /** Canonical, though formatManifest would refuse it. */
  const named = (...domains: string[]): string => {
    const http = JSON.stringify(domains.map((domain) => ({ domain, port: 80, protocol: 'http1' })));
    return `{"app":"a","containers":[{"http":${http},"image":"${image}","name":"a"}],"version":2}`;
  };

  test.each([['xn--a.example'], ['ab--c.example'], ['xn--bcher-kva9.example']])(
    'refuses the domain %s, which no browser asks for',
    (domain) => {
      expect(refusal(named('fine.example'))).toBe('accepted');
      expect(refusal(named('fine.example', domain))).toBe('MANIFEST_DOMAIN');
    },
  );

  test('refuses a domain twice, also in two containers', () => {
    expect(refusal(named('a.example', 'b.example', 'a.example'))).toBe('MANIFEST_DOMAIN');
    const [one, two] = ['a', 'b'].map(
      (name) =>
        `{"http":[{"domain":"a.example","port":80,"protocol":"http1"}],"image":"${image}","name":"${name}"}`,
    );
    expect(refusal(`{"app":"a","containers":[${one},${two}],"version":2}`)).toBe('MANIFEST_DOMAIN');
  });

  test.each(['secrets', 'keys', 'toString'])(
    'refuses to let a container ask for %s, by that name',
    (word) => {
      const text = `{"app":"a","containers":[{"api":["key","${word}"],"image":"${image}","name":"a"}],"version":2}`;
      const code = word === 'toString' ? 'MANIFEST_MALFORMED' : 'MANIFEST_API';
      expect(refusal(text)).toBe(code);
      if (code === 'MANIFEST_API') expect(() => parseManifest(utf8(text))).toThrow(`wants ${word} of`);
    },
  );

  test('an unknown field is refused by its name', () => {
    expect(() => parseManifest(utf8(JSON.stringify(of({ ...full, configs: [] }))))).toThrow(/configs/);
  });

  test.each([
    // Not enforced, so it must not look as if it were.
    ['privileged', true],
    ['privileges', 'none'],
    ['egress', 'host'],
    ['egress', ['10.0.0.0/8']],
    ['volumes', [{ path: '/data', mib: 5 }]],
    ['volumes', { '/': 5 }],
    ['volumes', { '/data': 0 }],
    ['volumes', { '/data:z': 5 }],
    ['hostVolume', 'rw'],
    ['hostVolume', '/etc'],
    ['secrets', [{ name: 'TOKEN', sealed: '00' }]],
    ['api', 'key'],
    ['api', ['Key']],
    ['api', ['key', 'key']],
    ['http', []],
    ['http', [{ port: 80 }]],
    ['http', [{ domain: 'a.example', port: 80 }]],
    ['http', [{ domain: 'a.example', port: 80, protocol: 'h2' }]],
    ['http', { domain: 'a.example', port: 80, protocol: 'http1' }],
    ...[
      '',
      'localhost',
      'a.example.',
      '.example',
      'a..example',
      'A.example',
      'ä.example',
      '*.example',
      '-a.example',
      'a-.example',
      'a_b.example',
      'a.example:80',
      'a.example/b',
      '127.0.0.1',
      '1.2.3',
      'a.example\n',
      `${'a'.repeat(64)}.example`,
      `${'abc.'.repeat(63)}de`,
    ].map((domain): [string, unknown] => ['http', [{ domain, port: 80, protocol: 'http1' }]]),
    ['memoryMiB', 0],
    ['memoryMiB', 64.5],
    ['memoryMiB', '64'],
    ['pids', 0],
    ['cpuPercent', -1],
    ['user', 'root'],
    ['user', '0:0:0'],
    ['user', '007'],
    ['data', 'rwx'],
    ['stopSeconds', 3600],
    ['update', 'rolling'],
    ['restart', 'unless-stopped'],
    ['logs', 'everyone'],
    ['requests', { port: 0 }],
    ['requests', { port: 65_536 }],
    ['requests', { port: 80, path: '/' }],
    ['requests', 80],
    ['health', { http: 'healthz' }],
    ['health', { http: '/a b' }],
    ['health', { http: '/\r\nHost: x' }],
    ['health', { exec: [] }],
    ['health', { exec: 'check' }],
    ['health', { exec: ['/check'], startSeconds: 3600 }],
    ['health', { exec: ['/check'], retries: 0 }],
    ['health', { tcp: 80 }],
    ['tmpfs', { tmp: 1 }],
    ['tmpfs', { '/': 1 }],
    ['tmpfs', { '/a:exec': 1 }],
    ['tmpfs', { '/a,size=9g': 1 }],
    ['tmpfs', { '/tmp/': 1 }],
    ['tmpfs', { '/tmp': '1g' }],
  ])('refuses %s: %j, and names it', (field, value) => {
    const bytes = utf8(JSON.stringify(of({ ...full, [field]: value })));
    expect(refusal(bytes)).toBe('MANIFEST_MALFORMED');
    expect(() => parseManifest(bytes)).toThrow(/containers\/0/);
  });

  test('version 1 has none of its fields', () => {
    expect(refusal(JSON.stringify({ ...of(full), version: 1 }))).toBe('MANIFEST_MALFORMED');
    expect(refusal(JSON.stringify({ ...of({ name: 'a', image }), http: [] }))).toBe('MANIFEST_MALFORMED');
  });

  test.each([
    ['/proc'],
    ['/proc/sys'],
    ['/sys'],
    ['/dev/shm'],
    ['/etc'],
    ['/mnt'],
    ['/mnt/encrypted_data'],
    ['/mnt/encrypted_data/x'],
    ['/a/../proc'],
    ['/a/.'],
    ['/mnt/host_volume'],
    ['/var/run/dstack'],
    ['/run/dstack'],
    ['/run/dstack/x'],
  ])('refuses a tmpfs over %s, and a volume', (path) => {
    expect(refusal(text2({ [path]: 1 }))).toBe('MANIFEST_PATH');
    expect(refusal(text2({}, { [path]: 1 }))).toBe('MANIFEST_PATH');
  });

  test('refuses two of one that writes to the disk', () => {
    const bytes = (data: string) =>
      `{"app":"a","containers":[{"data":"${data}","image":"${image}","name":"a","update":"beside"}],"version":2}`;
    expect(refusal(bytes('rw'))).toBe('MANIFEST_UPDATE');
    expect(refusal(bytes('ro'))).toBe('accepted');
    const volume = bytes('ro').replace(/}],/, ',"volumes":{"/db":5}}],');
    expect(refusal(volume)).toBe('MANIFEST_UPDATE');
    expect(refusal(volume.replace('beside', 'replace'))).toBe('accepted');
  });

  test.each([
    ['{}', ''],
    ['{"exec":["/check"],"http":"/"}', '"http":{"port":80},'],
    ['{"http":"/"}', ''],
    ['{"http":"/"}', '"http":[{"domain":"a.example","port":80,"protocol":"h2c"}],'],
  ])('refuses the health %s %s', (health, http) => {
    const bytes = `{"app":"a","containers":[{"health":${health},${http}"image":"${image}","name":"a"}],"version":2}`;
    expect(refusal(bytes)).toBe('MANIFEST_HEALTH');
  });

  test("takes a tmpfs around the agent's socket, which is mounted into it", () => {
    for (const path of ['/run', '/var/run', '/run/dstack2'])
      expect(refusal(text2({ [path]: 1 }))).toBe('accepted');
  });

  test('refuses a tmpfs within another', () => {
    expect(refusal(text2({ '/a': 1, '/a/b': 1 }))).toBe('MANIFEST_PATH');
    expect(refusal(text2({ '/a': 1, '/ab': 1 }))).toBe('accepted');
  });

  test('refuses a volume within a tmpfs, around one, or in its place', () => {
    expect(refusal(text2({ '/a': 1 }, { '/a/b': 1 }))).toBe('MANIFEST_PATH');
    expect(refusal(text2({ '/a/b': 1 }, { '/a': 1 }))).toBe('MANIFEST_PATH');
    expect(refusal(text2({ '/a': 1 }, { '/a': 1 }))).toBe('MANIFEST_PATH');
    expect(refusal(text2({ '/a': 1 }, { '/b': 1 }))).toBe('accepted');
  });

  /** Canonical, though formatManifest would refuse it. */
  const text2 = (tmpfs: object, volumes: object = {}): string =>
    `{"app":"a","containers":[{"image":"${image}","name":"a","tmpfs":${JSON.stringify(tmpfs)},"volumes":${JSON.stringify(volumes)}}],"version":2}`;

  test('arbitrary fields never get through', () => {
    const known = new Set(['name', 'image', 'env', 'command', 'http', 'volumes', ...Object.keys(full)]);
    const field = fc.string({ minLength: 1 }).filter((name) => !known.has(name) && name !== '__proto__');
    fc.assert(
      fc.property(
        field,
        fc.jsonValue(),
        (name, value) =>
          refusal(JSON.stringify(of({ name: 'a', image, [name]: value }))) === 'MANIFEST_MALFORMED',
      ),
    );
  });
});

describe('app id', () => {
  test('is the name padded with zeros', () => {
    expect(toHex(appId('greeting'))).toBe(`6772656574696e67${'00'.repeat(24)}`);
    expect(appName(appId('greeting'))).toBe('greeting');
    expect(appName(appId('x'.repeat(31)))).toBe('x'.repeat(31));
  });

  test.each(['', '-a', 'a-', 'A', 'a/b', 'ä', 'x'.repeat(32)])('%j is no name', (name) => {
    expect(() => appId(name)).toThrowError(/app name/);
  });

  test('bytes that are no padded name are refused', () => {
    const id = appId('a');
    id[31] = 1;
    for (const bytes of [id, new Uint8Array(32), new Uint8Array(32).fill(97), appId('a').slice(0, 31)]) {
      expect(() => appName(bytes)).toThrowError(expect.objectContaining({ code: 'APP_NAME' }));
    }
  });
});

describe('secrets', () => {
  const [one, two] = ['12'.repeat(32), '34'.repeat(32)];
  const withSecrets = (secrets: unknown, ...wanted: unknown[]): string =>
    refusal(
      `{"app":"x","containers":${JSON.stringify(
        wanted.map((names, at) => ({ image, name: `c${at}`, secrets: names })),
      )},"secrets":${JSON.stringify(secrets)},"version":2}`,
    );
  const db = { envelope: one, name: 'db' };
  const token = { envelope: two, name: 'token.v2' };

  test('of the app, each by the hash of its envelope; a container has those that it names', () => {
    const manifest: Manifest = {
      version: 2,
      app: 'x',
      secrets: [db, token] as never,
      containers: [
        { name: 'web', image, secrets: ['token.v2', 'db'] },
        { name: 'job', image, secrets: ['db'] },
        { name: 'rest', image },
      ],
    };
    const parsed = parseManifest(formatManifest(manifest));
    expect(plansOf(parsed).map(({ secrets }) => secrets)).toEqual([[db, token], [db], []]);
    expect(secretsOf(parsed)).toEqual([db, token]);
    expect(secretsOf(greeting)).toEqual([]);
    expect(plansOf(greeting)[0]?.secrets).toEqual([]);
  });

  test.each<[string, string, unknown, unknown[]]>([
    ['one that is not there', 'MANIFEST_SECRETS', [db], [['db', 'other']]],
    ['any, where there are none', 'MANIFEST_SECRETS', [], [['db']]],
    ['the same twice', 'MANIFEST_SECRETS', [db], [['db', 'db']]],
    ['a name twice', 'MANIFEST_SECRETS', [db, { ...token, name: 'db' }], [['db']]],
    ['an envelope twice', 'MANIFEST_SECRETS', [db, { ...token, envelope: one }], [['db', 'token.v2']]],
    ['one that nobody gets', 'MANIFEST_SECRETS', [db, token], [['db'], []]],
    ['a name that is a path', 'MANIFEST_MALFORMED', [{ ...db, name: 'a/b' }], [['a/b']]],
    ['a hidden name', 'MANIFEST_MALFORMED', [{ ...db, name: '.db' }], [['.db']]],
    ['a name that is none', 'MANIFEST_MALFORMED', [db], [['']]],
    ['half a hash', 'MANIFEST_MALFORMED', [{ ...db, envelope: 'ab' }], [['db']]],
    ['a prefix', 'MANIFEST_MALFORMED', [{ ...db, envelope: `sha256:${one}` }], [['db']]],
    ['a value', 'MANIFEST_MALFORMED', [{ ...db, value: 'x' }], [['db']]],
    ['a map', 'MANIFEST_MALFORMED', { db: one }, [['db']]],
    [
      'more than 64',
      'MANIFEST_MALFORMED',
      Array.from({ length: 65 }, (_, at) => ({
        envelope: at.toString(16).padStart(64, '0'),
        name: `s${at}`,
      })),
      [[]],
    ],
  ])('%s is refused: %s', (_, code, secrets, wanted) => {
    expect(withSecrets(secrets, ...wanted)).toBe(code);
  });

  test('version 1 has none', () => {
    expect(
      refusal(`{"app":"x","containers":[{"image":"${image}","name":"a"}],"secrets":[],"version":1}`),
    ).toBe('MANIFEST_MALFORMED');
    expect(
      refusal(`{"app":"x","containers":[{"image":"${image}","name":"a","secrets":[]}],"version":1}`),
    ).toBe('MANIFEST_MALFORMED');
  });

  test.each<[string, object, string]>([
    ['a tmpfs in their place', { tmpfs: { '/run/secrets': 1 } }, 'MANIFEST_PATH'],
    ['a tmpfs among them', { tmpfs: { '/run/secrets/db': 1 } }, 'MANIFEST_PATH'],
    ['a tmpfs around them, as every container has', { tmpfs: { '/run': 1 } }, 'accepted'],
    ['a volume in their place', { volumes: { '/run/secrets': 1 } }, 'MANIFEST_PATH'],
    ['a volume around them', { volumes: { '/run': 1 } }, 'MANIFEST_PATH'],
  ])('beside secrets, %s: %j', (_, fields, code) => {
    const of = (secrets: object) => {
      const container = { name: 'a', image, ...fields, ...secrets };
      try {
        formatManifest({
          version: 2,
          app: 'x',
          containers: [container],
          ...('secrets' in secrets && { secrets: [db] as never }),
        });
        return 'accepted';
      } catch (error) {
        return codeOf(error);
      }
    };
    expect(of({ secrets: ['db'] })).toBe(code);
    // Without secrets it is a place like any other.
    expect(of({})).toBe('accepted');
  });
});

describe('a signer', () => {
  const disk = '0123456789abcdef0123456789abcdef';
  const chain = { afterHeight: 0, id: 'chain-1', key: 'derived', protocol: 'v0.38' };
  const key = { envelope: '12'.repeat(32), name: 'validator' };
  const withSigner = (signer: unknown, rest: object = {}): string => {
    const manifest = { app: 'validator', containers: [], signer, version: 2, ...rest };
    try {
      return text(manifest);
    } catch (error) {
      return codeOf(error);
    }
  };

  test('may be all that a manifest has, or be beside containers', () => {
    const alone = withSigner({ disk, chains: [chain] });
    const manifest = parseManifest(utf8(alone));
    expect(signerPartOf(manifest)).toEqual({ disk, chains: [chain] });
    expect(plansOf(manifest)).toEqual([]);
    const whole = {
      disk,
      acceptHostRollback: true,
      minimumNodes: 1,
      chains: [{ ...chain, key: { secret: 'validator' } }],
    };
    const both = withSigner(whole, { containers: [{ name: 'web', image }], secrets: [key] });
    expect(signerPartOf(parseManifest(utf8(both)))).toEqual(whole);
    expect(signerPartOf(greeting)).toBeUndefined();
  });

  test.each<[string, string, object]>([
    ['an unknown field', 'MANIFEST_MALFORMED', { disk, chains: [chain], validators: [] }],
    ['no disk', 'MANIFEST_MALFORMED', { chains: [chain] }],
    ['no chain', 'MANIFEST_MALFORMED', { disk, chains: [] }],
    [
      'three nodes, which the contract cannot tell',
      'MANIFEST_MALFORMED',
      { disk, minimumNodes: 3, chains: [chain] },
    ],
    [
      'an unknown field of a chain',
      'MANIFEST_MALFORMED',
      { disk, chains: [{ ...chain, address: 'tcp://x:1' }] },
    ],
    ['no height', 'MANIFEST_MALFORMED', { disk, chains: [{ ...chain, afterHeight: undefined }] }],
    ['a height below 0', 'MANIFEST_MALFORMED', { disk, chains: [{ ...chain, afterHeight: -1 }] }],
    ['a version that is none', 'MANIFEST_MALFORMED', { disk, chains: [{ ...chain, protocol: 'v0.39' }] }],
    ['a key of its own', 'MANIFEST_MALFORMED', { disk, chains: [{ ...chain, key: 'ab'.repeat(32) }] }],
    ['a chain that is a path', 'MANIFEST_MALFORMED', { disk, chains: [{ ...chain, id: '../x' }] }],
    [
      '17 chains',
      'MANIFEST_MALFORMED',
      { disk, chains: Array.from({ length: 17 }, (_, n) => ({ ...chain, id: `c-${n}` })) },
    ],
    ['a chain twice', 'MANIFEST_SIGNER', { disk, chains: [chain, chain] }],
    ['plain bytes of another version', 'MANIFEST_SIGNER', { disk, chains: [{ ...chain, signBytes: true }] }],
  ])('%s is refused: %s', (_, code, signer) => {
    expect(withSigner(signer)).toBe(code);
  });

  test('a key that is a secret is one of the manifest, and only then has that a use', () => {
    const imported = { disk, chains: [{ ...chain, key: { secret: 'validator' } }] };
    expect(withSigner(imported)).toBe('MANIFEST_SIGNER');
    expect(withSigner(imported, { secrets: [{ ...key, name: 'other' }] })).toBe('MANIFEST_SECRETS');
    expect(withSigner({ disk, chains: [chain] }, { secrets: [key] })).toBe('MANIFEST_SECRETS');
  });

  test('without it a manifest has a container; version 1 has none', () => {
    expect(withSigner(undefined)).toBe('MANIFEST_CONTAINERS');
    expect(withSigner({ disk, chains: [chain] }, { version: 1, containers: [{ name: 'web', image }] })).toBe(
      'MANIFEST_MALFORMED',
    );
  });
});

describe('where hosts ask', () => {
  const asked = (name: string) => ({ name, image, requests: { port: 8080 } });

  test('is in one container', () => {
    const containers = [asked('a'), { name: 'b', image }];
    const manifest = parseManifest(formatManifest({ version: 2, app: 'a', containers } as Manifest));
    expect(plansOf(manifest).map(({ requests }) => requests)).toEqual([{ port: 8080 }, undefined]);
  });

  test('two are refused', () => {
    const text = JSON.stringify({
      app: 'a',
      containers: ['a', 'b'].map((name) => ({ image, name, requests: { port: 80 } })),
      version: 2,
    });
    expect(() => parseManifest(new TextEncoder().encode(text))).toThrow(
      expect.objectContaining({ code: 'MANIFEST_REQUESTS' }),
    );
  });

  test('is no port of visitors', () => {
    const website = { name: 'a', image, requests: { port: 80 }, http: { port: 80 } };
    const sites = { ...website, http: [{ domain: 'a.example', port: 80, protocol: 'http1' as const }] };
    for (const container of [website, sites])
      expect(() => formatManifest({ version: 2, app: 'a', containers: [container] })).toThrow(
        expect.objectContaining({ code: 'MANIFEST_REQUESTS' }),
      );
  });

  test('version 1 knows nothing of it', () => {
    const text = JSON.stringify({
      app: 'a',
      containers: [{ image, name: 'a', requests: { port: 80 } }],
      version: 1,
    });
    expect(() => parseManifest(new TextEncoder().encode(text))).toThrow(
      expect.objectContaining({ code: 'MANIFEST_MALFORMED' }),
    );
  });
});
