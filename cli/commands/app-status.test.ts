/** Looking at a node takes no key of an account: what only reads asks for what it reads, and no more. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { readArguments } from '../command.ts';
import { logs, ps, status } from './app-status.ts';

const NOWHERE = '127.0.0.1:1';

beforeEach(() => {
  for (const name of Object.keys(process.env).filter((one) => one.startsWith('DSTACK_')))
    vi.stubEnv(name, undefined);
  vi.stubEnv('DSTACK_NODE_URL', `http://${NOWHERE}`);
  vi.stubEnv('DSTACK_ADMIN_LISTEN', NOWHERE);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

test('containers are asked of the node, whose port is all that it takes', async () => {
  const asked = ps.run(readArguments(ps, []));
  expect(await Promise.resolve(asked).then(() => '', codeOf)).toBe('NODE_UNREACHABLE');
});

test('rollouts and lines take the contract and the endpoint too, and are asked for by name', async () => {
  const ask = (command: typeof status, args: readonly string[]) =>
    Promise.resolve(command.run(readArguments(command, [...args]))).then(
      () => '',
      (error: Error) => `${codeOf(error)} ${error.message}`,
    );
  expect(await ask(status, [])).toMatch(/^SETTINGS .*DSTACK_RPC_URL/);
  vi.stubEnv('DSTACK_RPC_URL', `http://${NOWHERE}`);
  vi.stubEnv('DSTACK_CHAIN_ID', '1');
  expect(await ask(logs, ['web'])).toMatch(/^SETTINGS .*DSTACK_CONTRACT/);
  vi.stubEnv('DSTACK_CONTRACT', `0x${'11'.repeat(20)}`);
  expect(await ask(status, [])).toMatch(/^RPC_/);
  expect(await ask(logs, ['web'])).toMatch(/^RELAY_UNREACHABLE/);
});
