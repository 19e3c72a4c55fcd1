import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';
import { type ManifestV2, plansOf } from '../../lib/protocol/manifest.ts';
import { ENVELOPE_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import { type Secrets, secretsIn } from './secrets.ts';

const HASH = parseHex('cd'.repeat(32));
let root = '';
let imageUser = '';
/** What the replicator was asked to open. Here an envelope is `sealed` and the value. */
let asked: string[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-secrets-'));
  mkdirSync(join(root, 'host/secrets'), { recursive: true });
  imageUser = '';
  asked = [];
});
afterEach(() => rmSync(root, { recursive: true }));

const folder = () => join(root, 'own/secrets');
const secrets = (): Secrets =>
  secretsIn({
    engine: { imageUser: async () => imageUser },
    hostVolume: join(root, 'host'),
    folder: folder(),
    async open(app, name, envelope) {
      asked.push(`${app} ${name}`);
      const text = Buffer.from(envelope).toString();
      if (!text.startsWith('sealed ')) throw new DstackError('SECRET_UNOPENABLE', 'does not open');
      return Buffer.from(text.slice('sealed '.length));
    },
  });
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

const hashOf = (text: string): Hex => toHex(sha256(utf8(text)));
const at = (envelope: Hex): string => join(root, `host/secrets/${envelope}.json`);
const put = (text: string): Hex => {
  writeFileSync(at(hashOf(text)), text);
  return hashOf(text);
};
const manifestOf = (of: Record<string, Hex>, ...containers: Partial<ManifestV2['containers'][number]>[]) =>
  ({
    version: 2,
    app: 'shop',
    secrets: Object.entries(of).map(([name, envelope]) => ({ name, envelope })),
    containers: containers.map((fields, index) => ({
      name: `c${index}`,
      image: `sha256:${'ab'.repeat(32)}`,
      ...fields,
    })),
  }) satisfies ManifestV2;
const [two] = [() => ({ db: put('sealed hunter2'), token: put('sealed t0ken') })];

test('each container has a folder with its own, which nobody else on the node gets to', async () => {
  const manifest = manifestOf(two(), { secrets: ['db', 'token'] }, { secrets: ['token'] }, {});
  const own = secrets();
  await own.prepare(HASH, manifest);
  expect(asked).toEqual(['shop db', 'shop token']);
  const [first, second, third] = plansOf(manifest);
  const { folder: all } = (await own.of(HASH, first!))!;
  expect(readdirSync(all).sort()).toEqual(['db', 'token']);
  expect(readFileSync(join(all, 'db'), 'utf8')).toBe('hunter2');
  expect(statSync(join(all, 'db')).mode & 0o777).toBe(0o400);
  expect(readdirSync((await own.of(HASH, second!))!.folder)).toEqual(['token']);
  expect(await own.of(HASH, third!)).toBeUndefined();
  for (const closed of [folder(), join(folder(), HASH)]) expect(statSync(closed).mode & 0o077).toBe(0);
});

test('what was opened once needs neither host nor replicator, also for the next run of the daemon', async () => {
  const manifest = manifestOf(two(), { secrets: ['db', 'token'] });
  await secrets().prepare(HASH, manifest);
  rmSync(join(root, 'host'), { recursive: true });
  asked = [];
  const later = secrets();
  await later.prepare(HASH, manifest);
  expect(asked).toEqual([]);
  expect(readFileSync(join((await later.of(HASH, plansOf(manifest)[0]!))!.folder, 'token'), 'utf8')).toBe(
    't0ken',
  );
  later.prune(new Set([HASH]));
  expect(existsSync(join(folder(), HASH))).toBe(true);
  later.prune(new Set());
  expect(readdirSync(folder())).toEqual([]);
});

test.each<[string, string, (good: Hex, other: Hex) => void]>([
  ['missing', 'SECRET_MISSING', (good) => rmSync(at(good))],
  [
    'another one, such as an older one',
    'SECRET_HASH_MISMATCH',
    (good, other) => writeFileSync(at(good), readFileSync(at(other))),
  ],
  [
    'altered',
    'SECRET_HASH_MISMATCH',
    (good) => writeFileSync(at(good), `${readFileSync(at(good), 'utf8')} `),
  ],
  ['cut short', 'SECRET_HASH_MISMATCH', (good) => writeFileSync(at(good), 'sealed')],
  ['too large', 'SECRET_TOO_LARGE', (good) => writeFileSync(at(good), 'x'.repeat(ENVELOPE_MAX_BYTES + 1))],
  [
    'a link',
    'SECRET_NOT_REGULAR',
    (good, other) => {
      rmSync(at(good));
      symlinkSync(at(other), at(good));
    },
  ],
  [
    'a folder',
    'SECRET_NOT_REGULAR',
    (good) => {
      rmSync(at(good));
      mkdirSync(at(good));
    },
  ],
])('%s: %s, nothing of it is kept, and put right it is taken', async (_, expected, spoil) => {
  const manifest = manifestOf(two(), { secrets: ['db', 'token'] });
  const [db, token] = manifest.secrets.map(({ envelope }) => envelope) as [Hex, Hex];
  spoil(token, db);
  const own = secrets();
  expect(await code(own.prepare(HASH, manifest))).toBe(expected);
  expect(asked).toEqual(['shop db']);
  expect(readdirSync(folder())).toEqual([]);
  rmSync(at(token), { recursive: true, force: true });
  two();
  expect(await code(own.prepare(HASH, manifest))).toBe('accepted');
});

test('one that does not open is refused as the replicator says', async () => {
  const manifest = manifestOf({ db: put('for another app') }, { secrets: ['db'] });
  expect(await code(secrets().prepare(HASH, manifest))).toBe('SECRET_UNOPENABLE');
  expect(readdirSync(folder())).toEqual([]);
});

test('what a run that was killed had begun is dropped', async () => {
  const manifest = manifestOf(two(), { secrets: ['db'] }, { secrets: ['token'] });
  mkdirSync(join(folder(), `${HASH}.draft`, 'c0'), { recursive: true });
  writeFileSync(join(folder(), `${HASH}.draft`, 'c0', 'db'), 'half');
  const own = secrets();
  expect(readdirSync(folder())).toEqual([]);
  await own.prepare(HASH, manifest);
  expect(readFileSync(join(folder(), HASH, 'c0', 'db'), 'utf8')).toBe('hunter2');
});

test.each([
  [undefined, '', 0],
  [undefined, '1000', 1000],
  [undefined, '1000:1000', 1000],
  [undefined, '70:postgres', 70],
  ['2000', 'node', 2000],
  ['2000:7', '', 2000],
  [undefined, 'node', 'SECRET_USER'],
  [undefined, 'node:node', 'SECRET_USER'],
  [undefined, '-1', 'SECRET_USER'],
])('user %s, of an image with %j: theirs are of %s', async (user, ofImage, expected) => {
  imageUser = ofImage;
  const manifest = manifestOf({ db: put('sealed x') }, { secrets: ['db'], ...(user && { user }) }, {});
  const own = secrets();
  const result = await own
    .prepare(HASH, manifest)
    .then(() => own.of(HASH, plansOf(manifest)[0]!))
    .then((found) => found?.user, codeOf);
  expect(result).toBe(expected);
  // Who has no secrets may be anybody.
  expect(await own.of(HASH, plansOf(manifest)[1]!)).toBeUndefined();
});
