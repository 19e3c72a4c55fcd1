import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parseEnvFile, readEnvironment, readGasKey, relaySettings, vmSettings } from './settings.ts';
import { type Name, settings as table, take } from './settings-table.ts';

const scratch = mkdtempSync(join(tmpdir(), 'settings-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const EXAMPLE = join(import.meta.dirname, '../../host.env.example');
const NEEDED = {
  DSTACK_RPC_URL: 'http://127.0.0.1:8545',
  DSTACK_CHAIN_ID: '31337',
  DSTACK_CONTRACT: `0x${'11'.repeat(20)}`,
  DSTACK_GAS_KEY_FILE: 'gas.key',
  DSTACK_STATE_DIR: '.state',
};
const settings = (code: string) => expect.objectContaining({ code });

test('the example is a complete file, and says every default as it is', () => {
  const example = readEnvironment(EXAMPLE, {});
  const { gasKeyFile, rpcUrl, chainId, contract, stateDir, networkJson, appFiles, ...rest } =
    relaySettings(example);
  expect(appFiles).toEqual({ volume: '.state/volume', fetch: true });
  const without = (use: string) => relaySettings({ ...example, DSTACK_APP_FILES: use }).appFiles;
  expect([without('serve')?.fetch, without('none')]).toEqual([false, undefined]);
  expect(() => without('all')).toThrowError(/DSTACK_APP_FILES/);
  expect({ gasKeyFile, rpcUrl, chainId, stateDir, networkJson }).toEqual({
    gasKeyFile: 'gas.key',
    rpcUrl: 'http://127.0.0.1:8545',
    chainId: 31337,
    stateDir: '.state/relay',
    networkJson: '.state/volume/network.json',
  });
  expect(contract).toBe(`0x${'00'.repeat(20)}`);
  expect(relaySettings(NEEDED)).toMatchObject(rest);
  expect(vmSettings(example)).toEqual({
    imageFolder: 'build/image-sim',
    hostVolume: '.state/volume',
    stateFolder: '.state/vm',
    platformStateFile: '.state/platform.json',
    ports: { tls: 8443, http: 8080, replicator: 7600 },
  });
});

test('every setting is in the example', () => {
  const names = new Set(Object.keys(table));
  expect(names.size).toBeGreaterThan(20);
  expect(new Set(Object.keys(parseEnvFile(readFileSync(EXAMPLE, 'utf8'))))).toEqual(names);
});

test('the environment overrides the file; lists, addresses and options are read', () => {
  const path = join(scratch, 'host.env');
  writeFileSync(
    path,
    '# c\nDSTACK_CHAIN_ID=1 # why\nDSTACK_STATE_DIR="/with space"\nDSTACK_LOG_LEVEL=\'warn\'\n',
  );
  const environment = readEnvironment(path, {
    ...NEEDED,
    DSTACK_STATE_DIR: undefined,
    DSTACK_MIRROR: 'not ours',
    PATH: '/',
  });
  expect(environment).not.toHaveProperty('DSTACK_MIRROR');
  const read = relaySettings({
    ...environment,
    DSTACK_GOSSIP_PEERS: 'http://a:1/, https://b',
    DSTACK_GOSSIP_LISTEN: '[::1]:0',
    DSTACK_RECORDS_LISTEN: '0.0.0.0:7612',
    DSTACK_RECORDS_PEERS: `relay.example:7612, ${'ab'.repeat(32)}@[::1]:1`,
  });
  expect(read).toMatchObject({
    chainId: 31337,
    stateDir: '/with space',
    logLevel: 'warn',
    gossipPeers: ['http://a:1', 'https://b'],
    gossipListen: { host: '::1', port: 0 },
    records: {
      listen: { host: '0.0.0.0', port: 7612 },
      peers: [
        { host: 'relay.example', port: 7612 },
        { key: 'ab'.repeat(32), host: '::1', port: 1 },
      ],
    },
  });
  expect(relaySettings(environment)).not.toHaveProperty('records');
  expect(relaySettings({ ...environment, DSTACK_RECORDS_PEERS: 'a:1' }).records).toEqual({
    peers: [{ host: 'a', port: 1 }],
  });
  const vm = {
    DSTACK_VM_IMAGE_DIR: 'i',
    DSTACK_VM_VOLUME_DIR: 'v',
    DSTACK_VM_STATE_DIR: 's',
    DSTACK_VM_PLATFORM_FILE: 'p',
  };
  expect(
    vmSettings({ ...vm, DSTACK_VM_CPUS: '4', DSTACK_VM_MEMORY_MIB: '4096', DSTACK_VM_DATA_DISK: 'd' }),
  ).toMatchObject({
    shape: { cpus: 4, memoryMiB: 4096 },
    dataDisk: { path: 'd' },
  });
  expect(() => vmSettings({ ...vm, DSTACK_VM_CPUS: '4' })).toThrowError(/DSTACK_VM_MEMORY_MIB is not set/);
});

/** What cannot be the value of each setting: of another type, and out of its range. */
const mistyped: Readonly<Record<Name, readonly string[]>> = {
  DSTACK_RPC_URL: ['file:///etc/passwd', 'http://', 'https://key@[::1', 'https://a,https://b'],
  DSTACK_CHAIN_ID: ['0x1', '1.5', '-1', '0', 'mainnet', '1e3'],
  DSTACK_CONTRACT: ['0x12', '11'.repeat(20), `0x${'zz'.repeat(20)}`],
  DSTACK_CONFIRMATIONS: ['two', '-1', '1001', '0.5'],
  DSTACK_POLL_MS: ['1s', '49', '60001'],
  DSTACK_GAS_KEY_FILE: ['x'.repeat(4097)],
  DSTACK_MAX_FEE_GWEI: ['-1', '0', '100001', '1 gwei', 'NaN', 'Infinity'],
  DSTACK_FEE_BUMP_SECONDS: ['0', '3601', '45s'],
  DSTACK_LOW_BALANCE_ETH: ['-0.1', '1001', 'one'],
  DSTACK_NODE_URL: ['127.0.0.1:7600', 'http://a b', 'http://:99999'],
  DSTACK_SITE_URL: ['http://127.0.0.1', 'https://a/path', 'https://'],
  DSTACK_STATE_DIR: ['x'.repeat(4097)],
  DSTACK_GOSSIP_LISTEN: ['7610', 'a:99999', ':7610', '::1:7610', 'a:-1'],
  DSTACK_GOSSIP_PEERS: [
    ...['http://a,b:7610', 'ftp://a', 'http://a:x', 'relay.example:7610', 'https:/a:7610'],
    ...['http://a:7610;http://b:7610', 'http://0.0.0.0:7610', 'http://[::]:7610', 'http://user:pw@a:7610'],
    ...['http://a:7610/v1/gossip', 'http://a:7610/relay/v1/gossip/ids', 'http://a:7610/?peer=1'],
  ],
  DSTACK_RECORDS_LISTEN: ['7612', 'a:99999', ':7612'],
  DSTACK_RECORDS_PEERS: ['a', 'a:0', 'ab@a:7612', 'http://a:7612', '@a:7612', 'a:7612,b'],
  DSTACK_CALLDATA_AFTER: ['yes', '-1', '100001', '1.5'],
  DSTACK_ADMIN_LISTEN: ['7611', '127.0.0.1', 'a:65536'],
  DSTACK_PCS_URL: ['pccs:8081', 'None'],
  DSTACK_PCS_ROOT_CRL_URL: ['root.crl', '/etc/root.crl'],
  DSTACK_PCS_UPDATE: ['late', 'Standard'],
  DSTACK_COLLATERAL_DIR: ['x'.repeat(4097)],
  DSTACK_FURTHER_NETWORKS: ['x'.repeat(4097)],
  DSTACK_APP_FILES: ['all', 'yes'],
  DSTACK_LOG_LEVEL: ['loud', 'INFO', 'trace'],
  DSTACK_VM_IMAGE_DIR: ['x'.repeat(4097)],
  DSTACK_VM_VOLUME_DIR: ['x'.repeat(4097)],
  DSTACK_VM_STATE_DIR: ['x'.repeat(4097)],
  DSTACK_VM_PLATFORM_FILE: ['x'.repeat(4097)],
  DSTACK_VM_CPUS: ['0', '257', 'all'],
  DSTACK_VM_MEMORY_MIB: ['511', '2G', '1048577'],
  DSTACK_VM_NODE_PORT: ['0', '65536', 'http'],
  DSTACK_VM_TLS_PORT: ['0', '65536'],
  DSTACK_VM_HTTP_PORT: ['0', '65536'],
  DSTACK_VM_STORE_PORT: ['0', '65536'],
  DSTACK_VM_VISITORS_LISTEN: ['443', 'a:99999'],
  DSTACK_VM_VALIDATORS: ['10.0.2.2:26659', 'chain-1=localhost:26659', 'chain-1=10.0.2.2:0'],
  DSTACK_VM_NETWORK: ['none', 'Own'],
  DSTACK_VM_LOOPBACK_PORTS: ['all', '0', '65536', '1-5', '8545,http'],
  DSTACK_VM_DATA_DISK: ['x'.repeat(4097)],
  DSTACK_VM_DATA_DISK_MIB: ['63', '1G', '67108865'],
};

test.each(Object.entries(mistyped))(
  '%s mistyped is refused by one sentence, which says what it is',
  (name, values) => {
    for (const value of values) {
      const sentence = refusal(() => take({ [name]: value }, name as Name));
      expect(sentence, value).toContain(
        `: ${sentence.includes('each item') ? 'each item is' : 'it is'} ${table[name as Name].is};`,
      );
      expect(sentence.startsWith(`${name} can't `), sentence).toBe(true);
      expect(sentence.length).toBeLessThan(400);
      expect(sentence).not.toMatch(/[\n\u2028]|\. [A-Z]/);
    }
  },
);

test('a setting without a default that is not there, or empty, is missed by its name and what it is', () => {
  const needed = (Object.keys(table) as Name[]).filter((name) => table[name].fallback === undefined);
  expect(needed.length).toBeGreaterThan(10);
  for (const name of needed)
    for (const environment of [{}, { [name]: '' }])
      expect(refusal(() => take(environment, name))).toContain(
        `${name} is not set: it is ${table[name].is};`,
      );
});

test('what is in a list twice, or too often, is said; an endpoint that is mistyped is not shown', () => {
  const peers = (value: string) => refusal(() => take({ DSTACK_GOSSIP_PEERS: value }, 'DSTACK_GOSSIP_PEERS'));
  expect(peers('http://a, http://b, http://a/')).toContain('DSTACK_GOSSIP_PEERS has "http://a" twice');
  expect(peers(Array.from({ length: 65 }, (_, n) => `http://a${n}`).join())).toContain(
    'has 65 items, more than 64',
  );
  expect(peers('http://a,b:7610')).toContain('can\'t have "b:7610" in it');
  const files = Array.from({ length: 33 }, (_, n) => `${n}.env`).join();
  expect(refusal(() => take({ DSTACK_FURTHER_NETWORKS: files }, 'DSTACK_FURTHER_NETWORKS'))).toContain(
    'more than 32',
  );
  expect(
    refusal(() => take({ DSTACK_RPC_URL: 'htps://rpc.example/v3/secret' }, 'DSTACK_RPC_URL')),
  ).not.toContain('secret');
});

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toEqual(settings('SETTINGS'));
    return (error as Error).message;
  }
  throw new Error('it was not refused');
}

test('validators are named by their chain, and by addresses alone', () => {
  const example = readEnvironment(EXAMPLE, {});
  const of = (text: string) => vmSettings({ ...example, DSTACK_VM_VALIDATORS: text }).validators;
  expect(of('chain-1=10.0.2.2:26659, chain-2=192.0.2.1:1')).toEqual([
    { chain: 'chain-1', address: '10.0.2.2', port: 26659 },
    { chain: 'chain-2', address: '192.0.2.1', port: 1 },
  ]);
  for (const odd of [
    ...['10.0.2.2:26659', 'chain-1=localhost:26659', 'chain-1=10.0.2.2', 'chain-1=10.0.2.2:0'],
    ...[
      'chain-1=unix:///run/a',
      'chain-1=[::1]:1',
      'chain-1=010.0.2.2:1',
      'chain-1=10.0.2.2\0:1',
      'chäin=10.0.2.2:1',
    ],
    Array.from({ length: 300 }, (_, n) => `chain-1=10.0.${n >> 8}.${n & 255}:1`).join(),
  ])
    expect(() => of(odd)).toThrowError(/DSTACK_VM_VALIDATORS/);
  // Of the VM itself, and of nobody.
  for (const nowhere of ['127.0.0.1', '127.9.9.9', '0.0.0.0', '224.0.0.1', '255.255.255.255'])
    expect(() => of(`chain-1=${nowhere}:26659`)).toThrowError(/the loopback of this host is 10.0.2.2 there/);
  for (const second of ['chain-1', 'chain-2'])
    expect(() => of(`chain-1=10.0.2.2:1,${second}=10.0.2.2:1`)).toThrowError(
      /two validators are at 10.0.2.2:1/,
    );
});

test('a network of its own leads to the ports that are named, and to the validators of this host', () => {
  const example = readEnvironment(EXAMPLE, {});
  const of = (more: Record<string, string>) => vmSettings({ ...example, ...more }).ownNetwork;
  const validators = 'chain-1=10.0.2.2:26659,chain-2=192.0.2.1:1';
  expect(of({})).toBeUndefined();
  expect(of({ DSTACK_VM_LOOPBACK_PORTS: '8545' })).toBeUndefined();
  expect(of({ DSTACK_VM_NETWORK: 'own' })).toEqual({ loopbackPorts: [] });
  expect(
    of({
      DSTACK_VM_NETWORK: 'own',
      DSTACK_VM_LOOPBACK_PORTS: '8545, 26659',
      DSTACK_VM_VALIDATORS: validators,
    }),
  ).toEqual({ loopbackPorts: [8545, 26659] });
  for (const odd of ['all', '0', '65536', '8545,8545', '1-5'])
    expect(() => of({ DSTACK_VM_NETWORK: 'own', DSTACK_VM_LOOPBACK_PORTS: odd })).toThrowError(
      /LOOPBACK_PORTS/,
    );
  expect(() => of({ DSTACK_VM_NETWORK: 'none' })).toThrowError(/DSTACK_VM_NETWORK/);
});

test('a misspelt name is refused with the one that was probably meant; one that is there twice, with both lines', () => {
  const path = join(scratch, 'odd.env');
  const said = (content: string) => {
    writeFileSync(path, content);
    return refusal(() => readEnvironment(path, {}));
  };
  expect(said('DSTACK_CHAIN_IDD=1')).toBe(
    `${path} sets DSTACK_CHAIN_IDD, which does not exist; did you mean DSTACK_CHAIN_ID?`,
  );
  expect(said('DSTACK_GOSIP_PEER=x')).toContain('did you mean DSTACK_GOSSIP_PEERS?');
  expect(said('PATH=/bin')).toBe(`${path} sets PATH, which does not exist; see host.env.example`);
  expect(said('# c\nDSTACK_CHAIN_ID=1\n\nDSTACK_CHAIN_ID=1\n')).toBe(
    `line 4 of ${path} sets DSTACK_CHAIN_ID, as line 2 does: leave one of them out`,
  );
});

test('a misspelt name, a line that is none, and a missing file are refused', () => {
  const path = join(scratch, 'bad.env');
  for (const line of [
    'DSTACK_CHAIN_IDD=1',
    'export DSTACK_CHAIN_ID=1',
    'DSTACK_CHAIN_ID = 1',
    'DSTACK_STATE_DIR=$(id) x',
  ]) {
    writeFileSync(path, line);
    expect(() => readEnvironment(path, {}), line).toThrowError(settings('SETTINGS'));
  }
  expect(() => readEnvironment(join(scratch, 'none'), {})).toThrowError(settings('SETTINGS'));
});

test('the gas key is read from a file that only its owner may read', () => {
  const path = join(scratch, 'gas.key');
  const key = 'ab'.repeat(32);
  writeFileSync(path, `${key}\n`, { mode: 0o600 });
  expect(readGasKey(path)).toBe(`0x${key}`);
  chmodSync(path, 0o640);
  expect(() => readGasKey(path)).toThrowError(
    expect.objectContaining({ code: 'GAS_KEY', message: expect.stringContaining('chmod 600') }),
  );
  writeFileSync(path, `${key}00`);
  chmodSync(path, 0o600);
  expect(() => readGasKey(path)).toThrowError(
    expect.objectContaining({ code: 'GAS_KEY', message: expect.not.stringContaining(key) }),
  );
  expect(() => readGasKey(join(scratch, 'none'))).toThrowError(settings('GAS_KEY'));
});

test("further networks come from files of their own; chain and gas settings that they leave out are the first one's", () => {
  const file = (name: string, content: string): string => {
    const path = join(scratch, name);
    writeFileSync(path, content);
    return path;
  };
  const own = (n: number) =>
    `DSTACK_CONTRACT=0x${String(n).repeat(40)}\nDSTACK_NODE_URL=http://127.0.0.1:760${n}\nDSTACK_STATE_DIR=.state-${n}\nDSTACK_GOSSIP_LISTEN=127.0.0.1:762${n}\n`;
  const two = file('two.env', own(2));
  const three = file('three.env', `${own(3)}DSTACK_CHAIN_ID=5\nDSTACK_RPC_URL=http://127.0.0.1:9\n`);
  const read = relaySettings({
    ...NEEDED,
    DSTACK_MAX_FEE_GWEI: '7',
    DSTACK_GOSSIP_PEERS: 'http://127.0.0.1:1',
    DSTACK_FURTHER_NETWORKS: `${two}, ${three}`,
  });
  expect(read.furtherNetworks).toMatchObject([
    { contract: `0x${'2'.repeat(40)}`, chainId: 31337, rpcUrl: NEEDED.DSTACK_RPC_URL, gasKeyFile: 'gas.key' },
    { contract: `0x${'3'.repeat(40)}`, chainId: 5, rpcUrl: 'http://127.0.0.1:9', maxFeeGwei: 7 },
  ]);
  // Whose peers are whose is never guessed.
  expect(read.furtherNetworks?.map(({ gossipPeers }) => gossipPeers)).toEqual([[], []]);

  const refusing =
    (files: string[], more: Record<string, string> = {}) =>
    () =>
      relaySettings({ ...NEEDED, ...more, DSTACK_FURTHER_NETWORKS: files.join(',') });
  const four = (change: string) => {
    const others = own(4)
      .split('\n')
      .filter((line) => line.split('=')[0] !== change.split('=')[0]);
    return file('four.env', [...others, change].join('\n'));
  };
  expect(refusing([four('DSTACK_STATE_DIR=./.state')])).toThrowError(settings('SETTINGS'));
  expect(refusing([four('DSTACK_NODE_URL=http://127.0.0.1:7600')])).toThrowError(/DSTACK_NODE_URL/);
  expect(refusing([four('DSTACK_GOSSIP_LISTEN=127.0.0.1:7610')])).toThrowError(/DSTACK_GOSSIP_LISTEN/);
  expect(
    refusing([four('DSTACK_RECORDS_LISTEN=127.0.0.1:7612')], { DSTACK_RECORDS_LISTEN: '127.0.0.1:7612' }),
  ).toThrowError(/DSTACK_RECORDS_LISTEN/);
  expect(refusing([four('DSTACK_VM_VOLUME_DIR=./volume')], { DSTACK_VM_VOLUME_DIR: 'volume' })).toThrowError(
    /DSTACK_VM_VOLUME_DIR/,
  );
  expect(refusing([four(`DSTACK_CONTRACT=${NEEDED.DSTACK_CONTRACT}`)])).toThrowError(/DSTACK_CONTRACT/);
  expect(refusing([four('DSTACK_CONTRACT=')])).toThrowError(/four.env: DSTACK_CONTRACT is not set/);
  expect(refusing([four(`DSTACK_FURTHER_NETWORKS=${two}`)])).toThrowError(/in one file/);
  expect(refusing([join(scratch, 'absent.env')])).toThrowError(settings('SETTINGS'));
});
