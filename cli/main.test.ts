/** The command line as a process: what it takes, what it refuses, and with which exit code (0 done, 1 failed, 2 misused). */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { dstack, startDstack } from '../test/support/cli.ts';
import { readArguments, UsageError } from './command.ts';

// On a busy machine a process takes a few seconds to load.
vi.setConfig({ testTimeout: 120_000 });

const scratch = mkdtempSync(join(tmpdir(), 'cli-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const ADDRESS = `0x${'11'.repeat(20)}`;
const NOWHERE = ['--chain-id', '1', '--rpc', 'http://127.0.0.1:9', '--contract', ADDRESS];
const file = (name: string, content: string, mode = 0o600): string => {
  const path = join(scratch, name);
  writeFileSync(path, content, { mode });
  return path;
};
const key = file('key', 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n');

test('without a command, and with help, it lists all of them and succeeds', async () => {
  for (const args of [[], ['--help'], ['help']]) {
    const { code, stdout } = await dstack(args);
    expect(code, args.join()).toBe(0);
    for (const name of ['network deploy', 'app rollout', 'node join', 'node status', 'relay run', 'vm run']) {
      expect(stdout).toContain(`npx dstack ${name} `);
    }
  }
});

test("a group's help lists that group's commands and succeeds", async () => {
  const { code, stdout, stderr } = await dstack(['network', '--help']);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toContain('npx dstack network deploy ');
  expect(stdout).not.toContain('npx dstack app rollout ');
});

test('a group within a group is one, and its commands are found', async () => {
  const { code, stdout } = await dstack(['app', 'secret', '--help']);
  expect(code).toBe(0);
  expect(stdout).toContain('npx dstack app secret set ');
  expect((await dstack(['app', 'secret', 'set', '--help'])).stdout).toMatch(
    /^npx dstack app secret set NAME SECRET\n/,
  );
  expect(await dstack(['app', 'secret'])).toMatchObject({ code: 2 });
});

test('a mistyped command says what may have been meant, and nothing on standard output', async () => {
  expect(await dstack(['netwrok', 'list'])).toEqual({
    code: 2,
    stdout: '',
    stderr:
      'dstack: USAGE: no command "netwrok list", but there is network list: `npx dstack help` lists all\n',
  });
  const group = await dstack(['vm']);
  expect([group.code, group.stdout]).toEqual([2, '']);
  expect(group.stderr).toContain('npx dstack vm check ');
});

test("a command's help names its options, where they come from, and runs nothing", async () => {
  const { code, stdout } = await dstack(['network', 'deploy', '--help']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/--owner-key FILE .*\(DSTACK_OWNER_KEY_FILE\)/);
  expect(stdout).toMatch(/--delay DURATION .*\(default 2d\)/);
});

describe('misuse is exit code 2, with the reason and without a stack trace', () => {
  test.each<[string[], string]>([
    [['nonsense'], 'USAGE: no command "nonsense"'],
    [['app', 'secret', 'get', 'web', 'token'], 'USAGE: no command "app secret get"'],
    [['network'], 'no command "network"'],
    [['network', 'deployed'], 'no command "network deployed"'],
    [['network', 'status', '--no-such', ...NOWHERE], '`network status` has no option --no-such: '],
    [['network', 'status', ...NOWHERE, '--trust-one-endpoint=no'], '--trust-one-endpoint takes no value: '],
    [['network', 'config', '--depth', '-1'], '--depth needs a value after it: '],
    [['network', 'status', ...NOWHERE, '--chain-id', '2'], '--chain-id is given twice'],
    [['network', 'status', ...NOWHERE, `--contract=${ADDRESS}`], '--contract is given twice'],
    [['nonsense', '--help'], 'no command "nonsense --help"'],
    [
      ['network', 'status', '--contract', ADDRESS, '--chain-id', '1'],
      '--rpc is missing (or DSTACK_RPC_URL in the environment)',
    ],
    [['network', 'status', '--contract', ADDRESS, '--rpc', 'http://x'], '--chain-id is missing'],
    [
      ['network', 'status', '--contract', 'vitalik.eth', '--rpc', 'http://x', '--chain-id', '1'],
      '--contract takes an address',
    ],
    [
      [
        'network',
        'deploy',
        '--owner',
        'vitalik.eth',
        '--rpc',
        'http://x',
        '--chain-id',
        '1',
        '--owner-key',
        key,
      ],
      '--owner takes an address',
    ],
    [
      [
        'network',
        'deploy',
        '--delay',
        '99999999999',
        '--rpc',
        'http://x',
        '--chain-id',
        '1',
        '--owner-key',
        key,
      ],
      '--delay is ',
    ],
    [
      [
        'network',
        'deploy',
        '--max-fee-gwei',
        '0',
        '--rpc',
        'http://x',
        '--chain-id',
        '1',
        '--owner-key',
        key,
      ],
      '--max-fee-gwei takes',
    ],
    [
      ['network', 'status', '--rpc', 'ftp://x', '--chain-id', '1', '--contract', ADDRESS],
      '--rpc takes an http(s) URL',
    ],
    [['network', 'status', 'extra', ...NOWHERE], '`network status` takes no arguments'],
    [['network', 'allow', 'config', ...NOWHERE, '--owner-key', key], 'takes measurement|config|platform'],
    [['network', 'allow', 'color', 'red', ...NOWHERE, '--owner-key', key], 'color is not one of measurement'],
    [['network', 'config', '--contract', ADDRESS, '--chain-id', '1'], '--endpoint is missing'],
    [
      ['network', 'config', '--contract', ADDRESS, '--chain-id', '1e3', '--endpoint', 'https://x.test'],
      '--chain-id takes a whole number, not 1e3',
    ],
    [['app', 'pack', 'x'], 'takes NAME ARCHIVE|COMPOSE.yml'],
    [['node', 'join', '--network', 'mainnet'], '--network takes an address'],
    [['vm', 'run', '--role'], '--role needs a value after it: `npx dstack vm run --help`'],
  ])('%j', async (args, reason) => {
    const { code, stderr } = await dstack(args);
    expect(stderr).toContain(reason);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(code).toBe(2);
  });
});

describe('failure is exit code 1, with a code and without a stack trace', () => {
  test.each<[string, string[], string]>([
    ['no settings at all', ['node', 'join'], 'SETTINGS: DSTACK_RPC_URL is not set'],
    ['no settings at all', ['relay', 'run'], 'SETTINGS: DSTACK_RPC_URL is not set'],
    ['no settings file', ['node', 'status', '--env-file', join(scratch, 'none')], 'SETTINGS: cannot read'],
    [
      'a misspelt setting',
      ['node', 'join', '--env-file', file('wrong.env', 'DSTACK_RPC=http://x\n')],
      'sets DSTACK_RPC, which does not exist',
    ],
    ['a dead endpoint', ['network', 'status', ...NOWHERE], 'CHAIN_UNREACHABLE'],
    [
      'no archive',
      ['app', 'pack', 'x', join(scratch, 'none'), '--out', scratch],
      `FILE: cannot read ${join(scratch, 'none')} (the archive): ENOENT`,
    ],
    [
      'no package',
      ['network', 'bootstrap', join(scratch, 'none'), ...NOWHERE, '--owner-key', key],
      `FILE: cannot read ${join(scratch, 'none')} (the bootstrap package): ENOENT`,
    ],
    [
      'a quorum that is no majority',
      [
        ...['network', 'config', '--contract', ADDRESS, '--chain-id', '1', '--quorum', '1'],
        ...['--endpoint', 'https://a.test', '--endpoint', 'https://b.test', '--out', join(scratch, 'n.json')],
      ],
      'NETWORK_CONFIG',
    ],
    [
      'a role that does not exist',
      ['vm', 'run', '--role', 'owner', '--env-file', file('vm.env', vmSettings())],
      'HOST_HINTS',
    ],
  ])('%s: %j', async (_, args, reason) => {
    const { code, stderr } = await dstack(args);
    expect(stderr).toContain(`dstack: ${reason}`.replace('dstack: sets', 'sets'));
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(code).toBe(1);
    expect(existsSync(join(scratch, 'n.json'))).toBe(false);
  });

  test('a key file that is missing, malformed or zero; its content is never shown', async () => {
    const endpoint = createServer((_, response) => response.end('{"jsonrpc":"2.0","id":1,"result":"0x1"}'));
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    const rpc = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`;
    const almost = `${'ab'.repeat(31)}a`;
    try {
      const deploy = ['network', 'deploy', '--chain-id', '1'];
      const readable = file('readable', 'ab'.repeat(32), 0o640);
      for (const path of [
        join(scratch, 'none'),
        file('almost', almost),
        file('zero', '00'.repeat(32)),
        readable,
      ]) {
        const { code, stderr } = await dstack([...deploy, '--rpc', rpc, '--owner-key', path]);
        expect(stderr).toContain(`KEY_FILE`);
        expect(stderr).toContain(path);
        expect(stderr).not.toContain(almost);
        expect(stderr).not.toMatch(/^\s+at /m);
        expect(code).toBe(1);
      }
    } finally {
      endpoint.closeAllConnections();
      endpoint.close();
    }
  });

  test.each([
    ['no JSON', 'hello'],
    ['no chain id', '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}'],
    ['null', 'null'],
  ])('an endpoint that answers %s, and whose URL is not shown', async (_, answer) => {
    const endpoint = createServer((_request, response) => response.end(answer));
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    const rpc = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/my-endpoint-key`;
    try {
      const { code, stderr } = await dstack([
        'network',
        'status',
        '--rpc',
        rpc,
        '--chain-id',
        '1',
        '--contract',
        ADDRESS,
      ]);
      expect(stderr).toContain('dstack: CHAIN_UNREACHABLE');
      expect(stderr).not.toContain('my-endpoint-key');
      expect(code).toBe(1);
    } finally {
      endpoint.closeAllConnections();
      endpoint.close();
    }
  });
});

test('Ctrl-C ends a join that waits: exit code 1, and says why', async () => {
  const { writeTestImage } = await import('../test/support/vm-process.ts');
  const env = file(
    'join.env',
    `${vmSettings(writeTestImage(join(scratch, 'image-sim')))}DSTACK_RPC_URL=http://127.0.0.1:9
DSTACK_CHAIN_ID=11155111
DSTACK_GAS_KEY_FILE=${key}
DSTACK_STATE_DIR=${join(scratch, 'relay')}
`,
  );
  const running = startDstack(['node', 'join', '--network', ADDRESS, '--env-file', env]);
  while (!running.text().includes("can't be read") && !running.text().includes("can't be read")) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (running.child.exitCode !== null) break;
  }
  running.child.kill('SIGINT');
  const { code, stdout, stderr } = await running.ended;
  expect(stdout).toContain(`Joining ${ADDRESS} on chain 11155111`);
  expect(stdout).toContain('measurement 0x');
  expect(stderr).toBe('dstack: INTERRUPTED: stopped before the node had joined\n');
  expect(code).toBe(1);
});

describe('reading arguments', () => {
  const command = {
    name: 'a b',
    summary: '',
    positionals: ['X'],
    options: {
      one: { value: 'V', help: '', env: 'DSTACK_TEST_ONE', default: 'd' },
      many: { value: 'V', help: '', multiple: true, formerly: 'all' },
      on: { help: '' },
    },
    run: async () => {},
  };
  test('the command line wins over the environment, which wins over the default', () => {
    expect(readArguments(command, ['x']).text('one')).toBe('d');
    process.env.DSTACK_TEST_ONE = 'e';
    try {
      expect(readArguments(command, ['x']).text('one')).toBe('e');
      expect(readArguments(command, ['x', '--one', 'c']).text('one')).toBe('c');
    } finally {
      delete process.env.DSTACK_TEST_ONE;
    }
  });
  test('lists keep their order, switches are off unless given, and a value is no switch', () => {
    const args = readArguments(command, ['--many', '1', 'x', '--many=2', '--on']);
    expect(args.list('many')).toEqual(['1', '2']);
    expect([args.flag('on'), args.positionals]).toEqual([true, ['x']]);
    expect(readArguments(command, ['x']).flag('on')).toBe(false);
    expect(() => readArguments(command, ['x', '--on=yes'])).toThrow(UsageError);
    expect(() => readArguments(command, ['x', 'y'])).toThrow('`a b` takes X');
  });
  test('an option of an earlier release is refused by its new name', () => {
    for (const words of [
      ['x', '--all', '1'],
      ['x', '--all=1'],
    ]) {
      expect(() => readArguments(command, words)).toThrow('--all is called --many now');
    }
    expect(() => readArguments(command, ['x', '--allow'])).toThrow(/allow/);
  });
});

test('network config writes exactly what it prints the hash of', async () => {
  const out = join(scratch, 'network.json');
  const args = ['network', 'config', '--contract', ADDRESS, '--chain-id', '11155111', '--out', out];
  const { code, stdout } = await dstack([
    ...args,
    '--endpoint',
    'https://a.test',
    '--endpoint',
    'https://b.test',
    '--superseded-grace',
    '7200',
    '--raw-quotes',
    'greeting',
  ]);
  expect(code).toBe(0);
  const { configHash } = await import('../lib/protocol/network-config.ts');
  const hash = Buffer.from(configHash(readFileSync(out))).toString('hex');
  expect(stdout).toBe(`config 0x${hash} (${out})\n`);
  expect(JSON.parse(readFileSync(out, 'utf8'))).toMatchObject({
    chainId: 11155111,
    confirmation: { finalized: true },
    quorum: 2,
    minimumNodes: 2,
    supersededGrace: 7200,
    rawQuotes: 'greeting',
  });
  const wrong = await dstack([...args, '--endpoint', 'https://a.test', '--raw-quotes', 'No App']);
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toContain('/rawQuotes');
});

test('network config takes what apps may keep in the store', async () => {
  const out = join(scratch, 'network.json');
  const args = ['network', 'config', '--contract', ADDRESS, '--chain-id', '1', '--out', out];
  const store = ['--endpoint', 'https://a.test', '--store-quota', '64'];
  const { code } = await dstack([...args, ...store, '--store-share', '4', '--store-share', 'orders=16']);
  expect(code).toBe(0);
  expect(JSON.parse(readFileSync(out, 'utf8')).store).toEqual({
    quotaMiB: 64,
    shareMiB: 4,
    shares: { orders: 16 },
  });
  for (const share of ['orders=', 'a=b', '65000'])
    expect((await dstack([...args, ...store, '--store-share', share])).code).not.toBe(0);
});

test('network config takes the website from a file, and refuses one that a node would refuse', async () => {
  const [out, file] = [join(scratch, 'with-site.json'), join(scratch, 'site.json')];
  const args = ['network', 'config', '--contract', ADDRESS, '--chain-id', '1', '--out', out, '--site', file];
  const run = () => dstack([...args, '--endpoint', 'https://a.test']);
  const site = {
    domains: ['site.example'],
    acme: { directory: 'https://acme.example/dir', challenges: ['http-01'], firstWithin: 30 },
  };
  writeFileSync(file, JSON.stringify(site));
  expect((await run()).code).toBe(0);
  expect(JSON.parse(readFileSync(out, 'utf8')).site).toEqual(site);

  writeFileSync(file, JSON.stringify({ ...site, domains: ['*.site.example'] }));
  expect(await run()).toMatchObject({ code: 2, stderr: expect.stringContaining('a domain in') });
  writeFileSync(file, JSON.stringify({ ...site, domains: [] }));
  expect(await run()).toMatchObject({ code: 1, stderr: expect.stringContaining('domains') });
  writeFileSync(file, '{domains: 1}');
  expect(await run()).toMatchObject({ code: 2, stderr: expect.stringContaining('--site takes a JSON file') });
  rmSync(file);
  expect(await run()).toMatchObject({ code: 1, stderr: expect.stringContaining('(--site)') });
});

function vmSettings(image = scratch): string {
  return `DSTACK_VM_IMAGE_DIR=${image}
DSTACK_VM_VOLUME_DIR=${join(scratch, 'volume')}
DSTACK_VM_STATE_DIR=${join(scratch, 'vm')}
DSTACK_VM_PLATFORM_FILE=${join(scratch, 'platform.json')}
DSTACK_GOSSIP_PEERS=http://127.0.0.1:9
`;
}

test('a setting that is set but empty is refused by name, and never counts as absent', async () => {
  for (const name of ['DSTACK_CHAIN_ID', 'DSTACK_RPC_URL', 'DSTACK_NETWORK_JSON', 'DSTACK_CONTRACT']) {
    const given = { DSTACK_CHAIN_ID: '1', DSTACK_RPC_URL: 'http://127.0.0.1:9', DSTACK_CONTRACT: ADDRESS };
    const { code, stderr } = await dstack(['network', 'status'], { ...given, [name]: '' });
    expect([code, stderr]).toEqual([
      2,
      `dstack: USAGE: ${name} is set but empty: give it a value or unset it\n`,
    ]);
  }
});

test('a directory, or nothing, where a file belongs is named', async () => {
  for (const [path, why] of [
    [scratch, 'EISDIR'],
    [join(scratch, 'none'), 'ENOENT'],
  ] as const) {
    const status = await dstack(['network', 'status', '--network-json', path]);
    expect([status.code, status.stderr]).toEqual([
      1,
      `dstack: FILE: cannot read ${path} (--network-json): ${why}\n`,
    ]);
    const bootstrap = await dstack(['network', 'bootstrap', path, ...NOWHERE, '--check-only']);
    expect([bootstrap.code, bootstrap.stderr]).toEqual([
      1,
      `dstack: FILE: cannot read ${path} (the bootstrap package): ${why}\n`,
    ]);
  }
});
