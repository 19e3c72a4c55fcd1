/**
 * The arrows of the layout as a lint rule: which folder may import which.
 *
 * `lib/protocol ← lib/archives | lib/attestation | lib/cometbft | lib/etcd | lib/noise ← lib/ledger | lib/site | lib/chain | lib/daemon ← lib/framework ← guest | host ← cli`; guest and host never import
 * each other. A guest daemon imports no other daemon; of the host's services only the relay imports others, and gossip imports records. Exits 1 and
 * names every import that points the wrong way.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { print, printError } from '../lib/daemon/terminal.ts';

const lib = [
  'lib/protocol',
  'lib/archives',
  'lib/attestation',
  'lib/etcd',
  'lib/ledger',
  'lib/cometbft',
  'lib/noise',
  'lib/site',
  'lib/daemon',
  'lib/chain',
  'lib/framework',
];

/** Which folders a folder may import from, besides itself and npm packages. */
const allowed: Record<string, readonly string[]> = {
  'lib/protocol': [],
  'lib/archives': ['lib/protocol'],
  'lib/attestation': ['lib/protocol'],
  'lib/etcd': ['lib/protocol'],
  'lib/ledger': ['lib/protocol', 'lib/etcd'],
  'lib/cometbft': ['lib/protocol'],
  'lib/noise': ['lib/protocol'],
  'lib/site': ['lib/protocol', 'lib/attestation'],
  'lib/daemon': ['lib/protocol'],
  'lib/chain': ['lib/protocol', 'lib/attestation', 'lib/daemon'],
  'lib/framework': ['lib/protocol', 'lib/chain', 'lib/daemon', 'lib/etcd'],
  // Daemons share the table of daemons besides lib.
  guest: [
    ...lib,
    'guest/daemons.ts',
    'guest/bridges.ts',
    'guest/callers.ts',
    'guest/listen.ts',
    'guest/sibling-calls.ts',
  ],
  // The front's configuration is made with the image, and measured.
  'guest/image': [...lib, 'guest/daemons.ts', 'guest/tls/front-config.ts'],
  'host/http-json.ts': lib,
  'host/node-client.ts': [...lib, 'host/http-json.ts'],
  'host/site-client.ts': lib,
  // A service of the host stands alone. The relay puts them together.
  host: [...lib, 'host/http-json.ts'],
  // Records are one of the ways by which gossip travels.
  'host/gossip': [...lib, 'host/http-json.ts', 'host/records'],
  'host/relay': [
    ...lib,
    'host/http-json.ts',
    'host/node-client.ts',
    'host/site-client.ts',
    'host/gossip',
    'host/collateral',
    'host/dashboard',
  ],
  contracts: ['lib/protocol', 'lib/daemon'],
  // The signer runs outside of a VM too, for tests; and so does the agent, with what answers it.
  cli: [
    ...lib,
    'guest/agent',
    'guest/callers.ts',
    'guest/daemons.ts',
    'guest/image',
    'guest/listen.ts',
    'guest/replicator',
    'guest/signer',
    'host',
    'contracts',
    // The typed client, as authors of apps have it.
    'sdk',
  ],
  'app-example': [...lib, 'cli'],
  // What is published (scripts/package.ts): a file that apps copy, and the list of what the framework has for authors.
  'sdk/agent.ts': [],
  sdk: ['lib/framework', 'lib/chain', 'lib/daemon', 'lib/protocol'],
  auditing: [...lib, 'cli'],
  // The demo's authority is the tests', and what the screenshots show is what tests look at.
  scripts: [
    ...lib,
    'cli',
    'host/site-client.ts',
    'contracts/local-node.ts',
    'test/support/browser.ts',
    'test/support/greeting.ts',
    'test/support/guest.ts',
    'test/support/pebble.ts',
    'test/support/relay.ts',
  ],
  // The boot benchmark makes an image as the build does, and starts VMs as the demo does; that of TLS starts the front as tests do;
  // that of archives runs a part of kubernethes in a VM as tests do; that of the agent runs it beside a node as tests do; that of kv
  // starts the store and etcd as tests do; that of the signer has the tests' etcd and nodes, that of gossip their requests, that of growth their
  // chains in memory, that of the dashboard their relays, that of the pages
  // their browser and their greeting app.
  bench: [
    ...lib,
    'cli',
    'guest/daemons.ts',
    'guest/image',
    'guest/kubernethes',
    'guest/signer',
    'host',
    'scripts',
    'test/signer/support',
    'test/support/agent.ts',
    'test/support/browser.ts',
    'contracts/fixture.ts',
    'contracts/local-chain.ts',
    'contracts/local-node.ts',
    'test/support/front.ts',
    'test/support/greeting.ts',
    'test/support/guest.ts',
    'test/support/modelled-chain.ts',
    'test/support/modelled-hosts.ts',
    'test/support/network.ts',
    'test/support/paced-chain.ts',
    'test/support/relay.ts',
    'test/support/served-chain.ts',
    'test/kv/support',
    'test/vm/dev-vm.ts',
  ],
};

/** The unit that a file belongs to: a part of lib, one guest daemon, one service of the host, or a top-level folder. */
function unitOf(path: string): string {
  const [top, second] = path.split('/');
  return ['lib', 'guest', 'host'].includes(top!) ? `${top}/${second}` : top!;
}

function rulesFor(file: string, unit: string): readonly string[] {
  return allowed[file] ?? allowed[unit] ?? allowed[unit.split('/')[0]!] ?? [];
}

/**
 * What callers may take of the verifier, besides types. Quotes are judged by one list of checks; whoever could compose parts of
 * it could leave one out.
 */
const verifier =
  /^lib\/attestation\/(verify|judge|intel-rules|policy|trace|tcb\/.*|certificates\/(chains|crl)|collateral\/(tcb-info|qe-identity))\.ts$/;
const verifierTakes = ['verify', 'verifyAsking', 'judgeQuote', 'parsePolicy', 'verifyCollateral'];

const roots = [
  'lib',
  'guest',
  'host',
  'contracts',
  'cli',
  'app-example',
  'auditing',
  'scripts',
  'bench',
  'sdk',
];
const files = roots.flatMap((root) => globSync(`${root}/**/*.{ts,mjs}`));
const wrong: string[] = [];

for (const file of files) {
  const isTest = /\.(test|fixture)\.ts$/.test(file);
  const unit = unitOf(file);
  for (const [, specifier] of readFileSync(file, 'utf8').matchAll(
    /(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]/g,
  )) {
    const target = normalize(join(dirname(file), specifier!));
    const targetUnit = unitOf(target);
    const fine =
      targetUnit === unit ||
      rulesFor(file, unit).some(
        (rule) => targetUnit === rule || target === rule || target.startsWith(`${rule}/`),
      ) ||
      // A test may use the harness, a local chain, the vectors and the client that apps copy, whatever it tests, and a service's test the other services.
      (isTest && /^(test|testdata|sdk)\/|^contracts\/local-/.test(target)) ||
      (isTest && unit.startsWith('host/') && target.startsWith('host/')) ||
      (!target.includes('/') && target.endsWith('.json'));
    if (!fine) wrong.push(`${file} imports ${target}: ${unit} may not import ${targetUnit}`);
  }
}

for (const file of files) {
  if (file.endsWith('.test.ts') || file.startsWith('lib/attestation/')) continue;
  for (const [, names, specifier] of readFileSync(file, 'utf8').matchAll(
    /import (?!type )\{([^}]*)\} from '(\.[^']+)'/g,
  )) {
    const target = normalize(join(dirname(file), specifier!));
    const values = names!.split(',').map((name) => name.trim().split(' as ')[0]!);
    const taken = values.filter((name) => name && !name.startsWith('type ') && !verifierTakes.includes(name));
    if (verifier.test(target) && taken.length > 0)
      wrong.push(`${file} takes ${taken.join(', ')} of ${target}: quotes are judged by verify alone`);
  }
}

for (const line of wrong) printError(line);
print(`arrows: ${files.length} files, ${wrong.length} imports that point the wrong way`);
process.exitCode = wrong.length === 0 ? 0 : 1;
