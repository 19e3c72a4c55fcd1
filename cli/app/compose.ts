/**
 * A manifest from a Docker Compose file (the Compose specification, https://github.com/compose-spec/compose-spec): the subset
 * that means the same on a node. Whatever is not in it is refused by name: a setting that had no effect would be a surprise.
 */
import { type Document, parseDocument, visit } from 'yaml';
import { DstackError } from '../../lib/protocol/errors.ts';
import { DATA_PATH, type ManifestV2 } from '../../lib/protocol/manifest.ts';
import { UsageError } from '../command.ts';

type Container = ManifestV2['containers'][number];
type Fields = Readonly<Record<string, unknown>>;

/** In bytes. */
export const COMPOSE_MAX_BYTES = 256 * 1024;

/**
 * @param images the digest of each service's image, 64 hex digits, by the service's name
 * @param sealed the secrets that there are envelopes of; they are no part of what is returned
 * @throws COMPOSE_MALFORMED for what is not YAML of that form, COMPOSE_UNSUPPORTED for what is not in the subset
 */
export function manifestOfCompose(
  app: string,
  text: string,
  images: ReadonlyMap<string, string>,
  sealed: ReadonlySet<string> = new Set(),
): ManifestV2 {
  const file = fieldsOf(plain(yaml(text), '', 0), 'the file');
  for (const [key, value] of Object.entries(file)) {
    if (key === 'services' || key === 'name' || key === 'version') continue;
    if (key === 'volumes' && Object.values(fieldsOf(value, key)).every(isEmpty)) continue;
    if (key === 'secrets') continue;
    throw unsupported(
      key,
      'of the file itself only services, name, version, secrets and volumes without settings are',
    );
  }
  requireSealed(app, file.secrets === undefined ? {} : fieldsOf(file.secrets, 'secrets'), sealed);
  const services = Object.entries(fieldsOf(file.services, 'services'));
  for (const name of images.keys()) {
    if (!services.some(([service]) => service === name))
      throw new UsageError(
        `--archive gives an archive for ${name}, which is no service of the file`,
        'COMPOSE_MALFORMED',
      );
  }
  return {
    version: 2,
    app,
    containers: services.map(([name, service]) => container(name, service, images.get(name))),
  };
}

/** Where a value comes from in Compose, a file or elsewhere, is for who seals it; here an envelope stands for it. */
function requireSealed(app: string, secrets: Fields, sealed: ReadonlySet<string>): void {
  for (const [name, secret] of Object.entries(secrets)) {
    const at = `secrets.${name}`;
    const { external, file, ...others } = fieldsOf(secret, at);
    const isPlain = external === true ? file === undefined : external === undefined && isText(file);
    if (!isPlain || Object.keys(others).length > 0)
      throw unsupported(at, 'it is either external: true, or has the file of its value');
    if (sealed.has(name)) continue;
    const from = isText(file) ? ` --file ${file}` : '';
    throw unsupported(
      at,
      `a manifest holds no values: seal it, by npx dstack app secret set ${app} ${name}${from} …, and give what that writes by --secret ${name}=FILE`,
    );
  }
  const unknown = [...sealed].find((name) => !Object.hasOwn(secrets, name));
  if (unknown === undefined) return;
  throw new DstackError(
    'COMPOSE_MALFORMED',
    `there is an envelope for ${unknown}, which is not among the secrets of the file`,
  );
}

function container(name: string, service: unknown, packed: string | undefined): Container {
  const at = `services.${name}`;
  const { image, ...settings } = fieldsOf(service, at);
  const found: Partial<Container> = {};
  for (const [key, value] of Object.entries(settings)) {
    const read = Object.hasOwn(settingsOf, key) ? settingsOf[key] : undefined;
    if (read === undefined) {
      const known = `of a service only image, ${Object.keys(settingsOf).join(', ')} are`;
      throw unsupported(`${at}.${key}`, Object.hasOwn(insteadOf, key) ? insteadOf[key]! : known);
    }
    const fields = read(value, `${at}.${key}`, settings);
    if (fields.http !== undefined && found.http !== undefined)
      throw unsupported(
        `${at}.${key}`,
        "a container is the network's website (ports) or has domains of its own (x-dstack-http)",
      );
    // A path and a time between checks come from two settings.
    const health = { ...found.health, ...fields.health };
    Object.assign(found, fields, Object.keys(health).length > 0 && { health });
  }
  return { name, image: imageOf(image, packed, at), ...found };
}

function imageOf(image: unknown, packed: string | undefined, at: string): string {
  const named = typeof image === 'string' && /^sha256:[0-9a-f]{64}$/.test(image) ? image : undefined;
  if (packed === undefined && named === undefined) {
    throw unsupported(
      `${at}.image`,
      'a name says nothing of what is in an image: give its archive by --archive SERVICE=FILE, or its config digest, sha256:…, as image',
    );
  }
  if (packed !== undefined && named !== undefined && named !== `sha256:${packed}`) {
    throw new DstackError(
      'COMPOSE_MALFORMED',
      `${at}.image is ${named}, and its archive holds sha256:${packed}`,
    );
  }
  return named ?? `sha256:${packed}`;
}

/** @param service all settings, for what depends on another one */
type Setting = (value: unknown, at: string, service: Fields) => Partial<Container>;

/** Each setting of a service and what it becomes. The manifest's schema checks the ranges. */
const settingsOf: Readonly<Record<string, Setting>> = {
  command: (value, at) => ({ command: words(value, at) }),
  environment: (value, at) => ({ env: environment(value, at) }),
  user: (value) => ({ user: `${value}` }),
  mem_limit: (value, at) => ({ memoryMiB: mebibytes(value, at) }),
  pids_limit: (value, at) => ({ pids: number(value, at) }),
  cpus: (value, at) => ({ cpuPercent: percent(value, at) }),
  shm_size: (value, at) => ({ shmMiB: mebibytes(value, at) }),
  tmpfs: (value, at) => ({ tmpfs: sizedPaths(value, at) }),
  stop_grace_period: (value, at) => ({ stopSeconds: seconds(value, at) }),
  healthcheck: (value, at) => ({ health: health(value, at) }),
  'x-dstack-health-path': (value) => ({ health: { http: `${value}` } }),
  'x-dstack-egress': (value) => ({ egress: value as 'internet' }),
  'x-dstack-update': (value) => ({ update: value as 'beside' }),
  'x-dstack-logs': (value) => ({ logs: value as 'public' }),
  // The manifest's schema checks what is in these.
  'x-dstack-http': (value) => ({ http: value as NonNullable<Container['http']> }),
  'x-dstack-requests': (value, at) => ({ requests: { port: number(value, at) } }),
  'x-dstack-api': (value) => ({ api: value as string[] }),
  ports: (value, at) => ({ http: { port: websitePort(value, at) } }),
  volumes: (value, at) => ({ data: dataVolume(value, at) }),
  'x-dstack-volumes': (value, at) => ({ volumes: sizedPaths(value, at) }),
  'x-dstack-host-volume': (value) => ({ hostVolume: value as 'ro' }),
  read_only: (value, at) => {
    if (value !== true) throw unsupported(at, 'a container never writes to its image: use tmpfs or volumes');
    return {};
  },
  secrets: (value, at, { user }) => ({ secrets: secretNames(value, at, user) }),
  restart: (value, at) => {
    if (value === 'always' || value === 'unless-stopped') return {};
    if (value === 'on-failure' || value === 'no') return { restart: value };
    throw unsupported(at, 'it is always, unless-stopped, on-failure or no; how often is not counted');
  },
};

const NEIGHBOURS =
  "containers of an app reach each other by their service's name, at every port: leave it out";
const NO_POWERS = 'no container has more powers than the others: leave it out';
const LIMITS = 'limits are mem_limit, cpus and pids_limit';

/** What to do about those of Compose's settings that most files have. docs/compose-app.md says the same at more length. */
const insteadOf: Readonly<Record<string, string>> = {
  build: 'build and save the image yourself, and give its archive by --archive SERVICE=FILE',
  cap_add: NO_POWERS,
  configs: 'put the files into the image, or make them secrets',
  container_name: NEIGHBOURS,
  depends_on:
    'all containers start at once: leave it out, and have the container try again until the other is there',
  deploy: LIMITS,
  devices: NO_POWERS,
  entrypoint: "it is the image's: set it in the Dockerfile, or give the words by command",
  env_file:
    'no file is read here: write the variables into environment, and what nobody may read into secrets',
  expose: NEIGHBOURS,
  hostname: NEIGHBOURS,
  links: NEIGHBOURS,
  logging: 'x-dstack-logs: public lets the node show the last lines to everybody; others nobody sees',
  memswap_limit: LIMITS,
  network_mode: NEIGHBOURS,
  networks: NEIGHBOURS,
  platform: 'nodes run linux/amd64: leave it out',
  privileged: NO_POWERS,
  pull_policy: 'nodes pull nothing: leave it out',
  working_dir: "it is the image's: set it in the Dockerfile",
};

const healthOf: Readonly<Record<string, (value: unknown, at: string) => NonNullable<Container['health']>>> = {
  test: (value, at) => ({ exec: check(value, at) }),
  interval: (value, at) => ({ intervalSeconds: seconds(value, at) }),
  timeout: (value, at) => ({ timeoutSeconds: seconds(value, at) }),
  retries: (value, at) => ({ retries: number(value, at) }),
  start_period: (value, at) => ({ startSeconds: seconds(value, at) }),
};

function health(value: unknown, at: string): NonNullable<Container['health']> {
  const entries = Object.entries(fieldsOf(value, at)).map(([key, setting]) => {
    if (Object.hasOwn(healthOf, key)) return healthOf[key]!(setting, `${at}.${key}`);
    throw unsupported(`${at}.${key}`, `of a healthcheck only ${Object.keys(healthOf).join(', ')} are`);
  });
  return Object.assign({}, ...entries);
}

function check(value: unknown, at: string): string[] {
  const [kind, ...rest] = words(value, at);
  if (kind === 'CMD' && rest.length > 0) return rest;
  throw unsupported(at, 'it is ["CMD", …]; a shell, if the image has one, is a word of the command');
}

function yaml(text: string): unknown {
  if (Buffer.byteLength(text) > COMPOSE_MAX_BYTES)
    throw new DstackError('COMPOSE_MALFORMED', `the file has more than ${COMPOSE_MAX_BYTES} bytes`);
  try {
    const document = parseDocument(text, {
      version: '1.2',
      schema: 'core',
      uniqueKeys: true,
      stringKeys: true,
    });
    const [problem] = [...document.errors, ...document.warnings];
    if (problem?.code === 'MULTIPLE_DOCS')
      throw new Error('it has several documents (---), and a Compose file is one');
    if (problem !== undefined) throw problem;
    keepSpellings(document);
    // An alias is repeated wherever it stands: a few lines could become gigabytes.
    return document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    const [line] = (cause as Error).message.split('\n');
    throw new DstackError('COMPOSE_MALFORMED', `the file is not YAML that can be read: ${line}`, { cause });
  }
}

/**
 * A number that JavaScript would write in another way stays the text that it is, or an environment variable of 1.10 would be 1.1, and
 * one of twenty digits another number.
 */
function keepSpellings(document: Document): void {
  visit(document, {
    Scalar(_, node) {
      if (typeof node.value === 'number' && node.source !== `${node.value}`) node.value = node.source;
    },
  });
}

/** Compose has nothing that is half as deep. */
const DEEPEST = 32;

/**
 * Compose puts variables of its caller's shell in place of $NAME and ${NAME}, and $ in place of $$ (interpolation). Here nothing is taken
 * from a shell, and a text that Compose would change is never taken as it stands.
 */
function plain(value: unknown, at: string, depth: number): unknown {
  // An anchor may stand within itself; so may lists without end.
  if (depth > DEEPEST)
    throw new DstackError(
      'COMPOSE_MALFORMED',
      `the file nests deeper than ${DEEPEST}, or is within itself, at ${at.slice(0, 100)}`,
    );
  if (typeof value === 'string') {
    if (!/^([^$]|\$\$)*$/.test(value))
      throw unsupported(
        at,
        'it has a $, and no variable is taken from your shell: write its value, or $$ for a $',
      );
    return value.replaceAll('$$', () => '$');
  }
  if (Array.isArray(value)) return value.map((item, index) => plain(item, `${at}[${index}]`, depth + 1));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      plain(item, at === '' ? key : `${at}.${key}`, depth + 1),
    ]),
  );
}

function fieldsOf(value: unknown, at: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new DstackError('COMPOSE_MALFORMED', `${at} is not a mapping`);
}

function words(value: unknown, at: string): string[] {
  if (Array.isArray(value) && value.every((word) => typeof word === 'string')) return value;
  throw unsupported(
    at,
    'it is a list of strings; how a shell splits a single string is not for a manifest to say',
  );
}

function secretNames(value: unknown, at: string, user: unknown): string[] {
  if (!Array.isArray(value)) throw unsupported(at, 'it is a list');
  return value.map((item, index) => (isText(item) ? item : secretName(item, `${at}[${index}]`, user)));
}

/** The long form. What it asks for is what every container has anyway; anything else would have no effect. */
function secretName(value: unknown, at: string, user: unknown): string {
  const { source, ...asked } = fieldsOf(value, at);
  if (!isText(source)) throw unsupported(`${at}.source`, 'it is the name of a secret of the file');
  const [uid] = /^\d{1,5}(?=:|$)/.exec(`${user}`) ?? [];
  const given: Readonly<Record<string, readonly [values: readonly unknown[], why: string]>> = {
    target: [
      [source, `/run/secrets/${source}`],
      `the file is /run/secrets/${source}; seal the value by the name that its file is to have`,
    ],
    uid: [
      uid === undefined ? [] : [uid, Number(uid)],
      "the file is the container's user's: give the service that user, in digits",
    ],
    gid: [['0', 0], "the file's group is 0, which has no right to it"],
    mode: [['0400', '0o400', 0o400], 'it is 0400'],
  };
  for (const [key, wanted] of Object.entries(asked)) {
    const [values, why] = Object.hasOwn(given, key)
      ? given[key]!
      : [[], `of a secret only source, ${Object.keys(given).join(', ')} are`];
    if (!values.includes(wanted)) throw unsupported(`${at}.${key}`, why);
  }
  return source;
}

function environment(value: unknown, at: string): Record<string, string> {
  const entries = Array.isArray(value)
    ? words(value, at).map((line): [string, unknown] => {
        const end = line.indexOf('=');
        return end < 1 ? [line, null] : [line.slice(0, end), line.slice(end + 1)];
      })
    : Object.entries(fieldsOf(value, at));
  return Object.fromEntries(
    entries.map(([name, text]) => {
      const isPlain = typeof text === 'string' || typeof text === 'number' || typeof text === 'boolean';
      if (isPlain) return [name, `${text}`];
      throw unsupported(`${at}.${name}`, 'it has no value, and none is taken from your shell');
    }),
  );
}

function number(value: unknown, at: string): number {
  if (typeof value === 'number' && Number.isInteger(value)) return value;
  throw new DstackError('COMPOSE_MALFORMED', `${at} is not a whole number`);
}

/** Bytes, or a number with a unit (b, k, m, g, as in 64m or 64mb). */
function mebibytes(value: unknown, at: string): number {
  const [, digits, unit = ''] = /^(\d{1,15})([kmg]?)b?$/i.exec(`${value}`) ?? [];
  if (digits === undefined) throw new DstackError('COMPOSE_MALFORMED', `${at} is not a size such as 64m`);
  const exponent = ['', 'k', 'm', 'g'].indexOf(unit.toLowerCase());
  const size = (Number(digits) * 1024 ** exponent) / 1024 ** 2;
  if (Number.isInteger(size)) return size;
  throw unsupported(at, 'it is not a whole number of MiB');
}

function percent(value: unknown, at: string): number {
  const size = Math.round(Number(value) * 100);
  if (/^\d+(\.\d{1,2})?$/.test(`${value}`) && size > 0) return size;
  throw new DstackError('COMPOSE_MALFORMED', `${at} is not a number of processors such as 0.5`);
}

/** Whole seconds, of a duration such as 90s or 1m30s. */
function seconds(value: unknown, at: string): number {
  const [all, hours = 0, minutes = 0, rest = 0] =
    /^(?:(\d{1,4})h)?(?:(\d{1,4})m)?(?:(\d{1,4})s)?$/.exec(`${value}`) ?? [];
  if (all === undefined || all === '')
    throw unsupported(at, 'it is not a duration of whole seconds such as 1m30s');
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
}

/** Folders with their sizes. */
function sizedPaths(value: unknown, at: string): Record<string, number> {
  const lines = typeof value === 'string' ? [value] : words(value, at);
  return Object.fromEntries(
    lines.map((line) => {
      const [, path, size] = /^([^:]+):size=(\w+)$/.exec(line) ?? [];
      if (path === undefined) throw unsupported(at, 'each is PATH:size=SIZE, such as /run:size=16m');
      return [path, mebibytes(size, at)];
    }),
  );
}

/** The website is on 443 of the node, whatever port the container has. */
function websitePort(value: unknown, at: string): number {
  const [only, ...others] = Array.isArray(value) ? value : [];
  const port = /^443:(\d{1,5})$/.exec(`${only}`)?.[1];
  if (port === undefined || others.length > 0)
    throw unsupported(at, 'a node has one port for apps, its website: ["443:PORT"]');
  return Number(port);
}

/** What Compose can say is mounted: the app's folder of the data disk. A size it cannot say. */
function dataVolume(value: unknown, at: string): 'ro' | 'rw' {
  const [only, ...others] = Array.isArray(value) ? value : [];
  const [name, path, mode = 'rw', ...more] = `${only}`.split(':');
  const isPlain = /^[\w-]+$/.test(name ?? '') && path === DATA_PATH && more.length === 0;
  if (!isPlain || others.length > 0 || (mode !== 'ro' && mode !== 'rw')) {
    throw unsupported(
      at,
      `a container can mount its app's folder of the data disk: ["data:${DATA_PATH}"], or with :ro; a folder of its own, with a size, is in x-dstack-volumes`,
    );
  }
  return mode;
}

const isText = (value: unknown): value is string => typeof value === 'string';

const isEmpty = (value: unknown): boolean =>
  value === null || (typeof value === 'object' && Object.keys(value).length === 0);

function unsupported(what: string, why: string): DstackError {
  return new DstackError('COMPOSE_UNSUPPORTED', `${what} is not supported: ${why}`);
}
