/**
 * What an author outside of this repository has: the package as it is packed, installed into an empty folder without a network, and run by its own command line.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApp, TEMPLATES } from '../../cli/dev/create.ts';
import { startDev } from '../../cli/dev/dev.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { freePort } from '../support/free-port.ts';

/** Nobody stops it. */
const never = new AbortController().signal;
const root = join(import.meta.dirname, '../..');
const outside = realpathSync(mkdtempSync(join(tmpdir(), 'dstack-outside-')));
/** With what shells and URLs read as something else. */
const folder = join(outside, "somebody's folder (1) #", 'my-app');

beforeAll(async () => {
  mkdirSync(join(folder, '..'));
  // Of who has no network, and whose npm leaves out what is for development.
  const before = { ...process.env };
  Object.assign(process.env, {
    npm_config_offline: 'true',
    npm_config_cache: join(outside, 'cache'),
    NODE_ENV: 'production',
  });
  try {
    await createApp(folder, 'my-app', 'ping-pong', never);
  } finally {
    process.env = before;
  }
});
afterAll(() => {
  rmSync(outside, { recursive: true, force: true });
});

test('the package brings along all that it needs, and nothing that runs when it is installed', async () => {
  const installed = join(folder, 'node_modules/dstack');
  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Record<
    string,
    object
  >;
  expect(Object.keys(manifest.dependencies!)).toEqual(manifest.bundleDependencies);
  expect(manifest).not.toHaveProperty('scripts');
  // What npm would fetch for somebody else's copy of the app is named by its hash.
  const { packages } = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { integrity?: string; inBundle?: boolean; hasInstallScript?: boolean }>;
  };
  const { '': own, ...others } = packages;
  expect(own).toBeDefined();
  const names = Object.keys(others);
  expect(names).toContain('node_modules/solc');
  expect(names.filter((name) => !others[name]!.inBundle && !others[name]!.integrity)).toEqual([]);
  expect(names.filter((name) => others[name]!.hasInstallScript)).toEqual([]);
  const script = `
    const [framework, agent] = await Promise.all([import('dstack/framework'), import('dstack/agent')]);
    const { readFileSync } = await import('node:fs');
    const { fileURLToPath } = await import('node:url');
    const sol = readFileSync(fileURLToPath(import.meta.resolve('dstack/contracts/EnclaveApp.sol')), 'utf8');
    const { Type } = framework;
    framework.check(Type.Object({ a: Type.Number() }), { a: 1 }, 'X', 'x');
    process.stdout.write(JSON.stringify([typeof framework.serve, typeof agent.agent, sol.includes('abstract contract EnclaveApp')]));`;
  const { stdout } = await execa(process.execPath, ['--input-type=module', '-e', script], { cwd: folder });
  expect(JSON.parse(stdout)).toEqual(['function', 'function', true]);
  const host = await execa(join(folder, 'node_modules/.bin/dstack-host'), { cwd: folder, reject: false });
  expect(host.stderr).toContain('CHAIN_ID is missing');
});

/** Its own command line, as npm starts it. */
const bin = join(folder, 'node_modules/dstack/cli/dstack.js');
function started(words: readonly string[]) {
  const child = execa(process.execPath, [bin, ...words], {
    cwd: folder,
    reject: false,
    all: true,
    detached: true,
  });
  let text = '';
  child.all.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const seen = (what: RegExp) => expect.poll(() => text, { timeout: 120_000, interval: 20 }).toMatch(what);
  return { child, seen, forget: () => (text = '') };
}
const dies = (pid: number) =>
  expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 60_000, interval: 50 }).toBe(false);

test('who stops it, breaks its files, starts it twice or kills it has it so', async () => {
  const port = String(await freePort());
  const early = started(['dev', '--port', port]);
  await early.seen(/^chain /m);
  // As a terminal does it: to all of the group.
  process.kill(-early.child.pid!, 'SIGINT');
  expect(await early.child).toMatchObject({
    exitCode: 1,
    all: expect.stringMatching(/dstack: INTERRUPTED: .*$/),
  });

  const running = started(['dev', '--port', port]);
  await running.seen(/host: serving/);
  await running.seen(/enclave: listening/);
  const twice = await started(['dev', '--port', port]).child;
  expect(twice).toMatchObject({ exitCode: 1, all: expect.stringContaining('dstack: DEV_PORT: ') });

  const enclave = join(folder, 'enclave/ping.ts');
  const text = readFileSync(enclave, 'utf8');
  writeFileSync(enclave, 'const = 1;');
  await running.seen(/DEV_SOURCE: the app stays as it was/);
  rmSync(join(folder, 'enclave'), { recursive: true });
  await running.seen(/enclave\/main\.ts is missing/);
  // The enclave that ran still does.
  expect((await fetch(`http://127.0.0.1:${port}/v1/none`, { method: 'POST' })).status).toBeGreaterThan(399);
  running.forget();
  cpSync(join(root, 'templates/ping-pong/enclave'), join(folder, 'enclave'), { recursive: true });
  await running.seen(/starting enclave again/);
  await running.seen(/enclave: listening/);
  expect(readFileSync(enclave, 'utf8')).toBe(text);

  const children = readFileSync(`/proc/${running.child.pid}/task/${running.child.pid}/children`, 'utf8');
  const pids = children.trim().split(' ').map(Number);
  // Chain, enclave, host and the guard.
  expect(pids).toHaveLength(4);
  running.child.kill('SIGKILL');
  await running.child;
  for (const pid of pids) await dies(pid);

  const last = started(['dev', '--port', port]);
  await last.seen(/Ctrl-C ends it/);
  process.kill(-last.child.pid!, 'SIGINT');
  const { exitCode, all } = await last.child;
  expect(exitCode).toBe(0);
  expect(all).not.toMatch(/^ +at /m);
});

test('it makes further apps, and says what it lacks', async () => {
  const words = ['create', 'other'];
  const env = { npm_config_offline: 'true', npm_config_cache: join(outside, 'none') };
  const options = { cwd: outside, reject: false, all: true } as const;
  const before = readdirSync(outside);
  const offline = await execa(process.execPath, [bin, ...words], { ...options, env });
  expect(offline).toMatchObject({
    exitCode: 1,
    all: expect.stringContaining('dstack: CREATE_INSTALL: npm install failed'),
  });
  const alone = await execa(process.execPath, [bin, ...words], { ...options, env: { PATH: outside } });
  expect(alone).toMatchObject({
    exitCode: 1,
    all: expect.stringMatching(/dstack: PACKAGE_FAILED: npm .*PATH/),
  });
  const old = `data:text/javascript,Object.defineProperty(process,'versions',{value:{...process.versions,node:'22.17.9'}})`;
  const older = await execa(process.execPath, ['--import', old, bin, ...words], options);
  expect(older).toMatchObject({
    exitCode: 1,
    all: expect.stringContaining('dstack: NODE_VERSION: this is Node 22.17.9'),
  });
  const inVm = await execa(process.execPath, [bin, 'dev', '--vm', '--dir', folder], options);
  expect(inVm).toMatchObject({ exitCode: 1, all: expect.stringContaining('dstack: DEV_VM_IMAGE: ') });
  const mistyped = await execa(process.execPath, [bin, 'creat', 'x'], options);
  expect(mistyped).toMatchObject({ exitCode: 2, all: expect.stringContaining('there is create') });
  expect(readdirSync(outside).filter((name) => !before.includes(name) && name !== 'none')).toEqual([]);
});

test('its declarations are whole, and say what is wrong with a handler', async () => {
  const tsc = async () => {
    const args = [
      '--noEmit',
      '--strict',
      '--target',
      'esnext',
      '--module',
      'nodenext',
      '--erasableSyntaxOnly',
    ];
    const more = [
      '--exactOptionalPropertyTypes',
      '--noUncheckedIndexedAccess',
      '--allowImportingTsExtensions',
    ];
    const types = ['--typeRoots', join(root, 'node_modules/@types'), '--types', 'node'];
    const files = ['enclave/main.ts', 'host/main.ts', 'test/ping-pong.test.ts', 'wrong.ts'];
    return execa(join(root, 'node_modules/.bin/tsc'), [...args, ...more, ...types, ...files], {
      ...{ cwd: folder, reject: false },
    });
  };
  writeFileSync(join(folder, 'wrong.ts'), 'export {};\n');
  const right = await tsc();
  expect(right.stdout).toBe('');
  writeFileSync(
    join(folder, 'wrong.ts'),
    `import { abi, type Answering, type Enclave } from 'dstack/framework';
     const Text = abi.struct({ text: abi.text });
     export const wrong: Answering<Enclave, { text: string }, { text: string }> = {
       request: Text, response: Text, handle: async (_, { text }) => ({ text: text.length }),
     };`,
  );
  const wrong = await tsc();
  rmSync(join(folder, 'wrong.ts'));
  expect(wrong.stdout).toMatch(/wrong\.ts.*number.*string/s);
});

test('nothing of the app names the repository that made it', () => {
  const naming = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'anvil')
    .map(({ parentPath, name }) => join(parentPath, name))
    .filter((file) => readFileSync(file).includes(root));
  expect(naming).toEqual([]);
  const links = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isSymbolicLink())
    .map(({ parentPath, name }) => realpathSync(join(parentPath, name)))
    .filter((target) => !target.startsWith(folder));
  expect(links).toEqual([]);
});

test('npm finds all installed, and nothing to change', async () => {
  const npm = (...args: string[]) =>
    execa('npm', [...args, '--offline', '--cache', join(outside, 'cache')], { cwd: folder });
  await npm('ls', '--all');
  await npm('install', '--ignore-scripts', '--no-audit');
  // By way of a link, from which nothing leads to this repository.
  const link = join(outside, 'link');
  symlinkSync(folder, link);
  const tests = await execa('npm', ['test', '--', '--port', String(await freePort())], { cwd: link });
  expect(tests.stdout).toMatch(/pass 1$/m);
  expect(existsSync(join(folder, 'node_modules/solc/soljson.js'))).toBe(true);
});

test('what each Dockerfile copies is there, and its npm fetches nothing and leaves out compiler and chain', async () => {
  const image = join(outside, 'image');
  for (const template of TEMPLATES) {
    const from = join(root, 'templates', template);
    const dockerfile = readFileSync(join(from, 'Dockerfile'), 'utf8');
    const copied = [...dockerfile.matchAll(/^COPY (.*) \S+$/gm)].flatMap(([, words]) => words!.split(' '));
    const kept = readFileSync(join(from, '.dockerignore'), 'utf8').trim().split('\n');
    expect(kept.toSorted()).toEqual(['*', ...copied.map((name) => `!${name}`)].toSorted());
    for (const name of copied)
      expect(existsSync(join(from, name)) || existsSync(join(folder, name))).toBe(true);
    expect(dockerfile).toContain('RUN npm ci --omit=dev --offline --ignore-scripts --no-audit --no-fund\n');
  }
  mkdirSync(image);
  for (const name of ['package.json', 'package-lock.json', 'vendor'])
    cpSync(join(folder, name), join(image, name), { recursive: true });
  const words = ['ci', '--omit=dev', '--offline', '--ignore-scripts', '--no-audit', '--no-fund'];
  await execa('npm', [...words, '--cache', join(outside, 'empty')], { cwd: image });
  const installed = readdirSync(join(image, 'node_modules')).filter((name) => !name.startsWith('.'));
  expect(installed).toEqual(['dstack']);
});

test('the documentation says to type what the tests here do', () => {
  const commandsOf = (file: string) =>
    [.../```sh\n(.*?)```/s.exec(readFileSync(file, 'utf8'))![1]!.matchAll(/^(.*?)(?: {2,}#.*)?$/gm)]
      .map(([, line]) => line)
      .filter(Boolean);
  expect(commandsOf(join(root, 'docs/framework.md'))).toEqual([
    'npx dstack create my-app',
    'cd my-app',
    'npm run dev',
    'npm test',
  ]);
  for (const template of TEMPLATES)
    expect(commandsOf(join(root, `templates/${template}/README.md`))).toEqual([
      'npm install',
      'npm run dev',
      'npm test',
    ]);
  const { scripts } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { scripts: object };
  expect(scripts).toEqual({ dev: 'dstack dev', test: 'dstack dev --test' });
});

test('the app runs on it, from its tests to a change of its enclave', async () => {
  const dev = await startDev({ folder, app: 'my-app', port: await freePort() });
  try {
    expect(await dev.test(never)).toBe(0);
    const { APP_CONTRACT: before } = dev.env();
    const enclave = join(folder, 'enclave/ping.ts');
    const contract = join(folder, 'contracts/App.sol');
    const text = readFileSync(contract, 'utf8');
    // What does not compile leaves the app as it was.
    writeFileSync(contract, 'not Solidity');
    writeFileSync(enclave, readFileSync(enclave, 'utf8').replace('`pong ', '`changed '));
    writeFileSync(contract, `${text}// changed`);
    await expect.poll(() => dev.env().APP_CONTRACT, { timeout: 120_000 }).not.toBe(before);
    // The answer is another now, which the app's test has to see.
    expect(await dev.test(never)).not.toBe(0);
  } finally {
    await dev.stop();
  }
});

test('a folder with something in it is left alone', async () => {
  expect(await createApp(folder, 'my-app', 'ping-pong', never).then(() => 'made', codeOf)).toBe(
    'CREATE_FOLDER',
  );
});
