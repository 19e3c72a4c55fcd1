/** What an author outside of this repository has: the package as it is packed, installed into an empty folder without a network, and run. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApp } from '../../cli/dev/create.ts';
import { startDev } from '../../cli/dev/dev.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { freePort } from '../support/free-port.ts';

/** Nobody stops it. */
const never = new AbortController().signal;
const root = join(import.meta.dirname, '../..');
const outside = mkdtempSync(join(tmpdir(), 'dstack-outside-'));
const folder = join(outside, 'my-app');

beforeAll(async () => {
  await createApp(folder, 'my-app', 'ping-pong', never);
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
  const lock = readFileSync(join(folder, 'package-lock.json'), 'utf8');
  expect(lock).not.toContain('registry.npmjs.org');
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
