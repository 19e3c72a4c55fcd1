/** Points 1, 2 and 10: who gets which key, and what becomes of strings from outside. */
import { type Mutation, one } from '../mutation.ts';

const node = 'test/trust/node.test.ts';
const machine = 'test/trust/machine.test.ts';
const KEYS = 'lib/protocol/keys.ts';
const SYSTEM = 'guest/disk/system.ts';
const KEYRING = 'guest/replicator/keyring.ts';

export const keysAndStrings: readonly Mutation[] = [
  // 1: the host could fetch any derived key, the TLS key too, from the app port
  one(
    1,
    "the caller's address",
    ['guest/callers.ts', 'address === origin.remote && gateway === origin.local', 'gateway === origin.local'],
    [node, '^1: the host is not an app'],
  ),
  one(
    1,
    'the bridge that the caller arrives on',
    [
      'guest/callers.ts',
      'address === origin.remote && gateway === origin.local',
      'address === origin.remote',
    ],
    [node, '^1: the host is not an app'],
  ),
  one(
    1,
    'the refusal of forwarded requests',
    ['guest/agent/server.ts', "      assertPlain(request, isOwn ? 'any' : hosts());\n", ''],
    [node, '^1: a visitor'],
  ),
  one(
    1,
    'the app in the request for its key',
    [
      'guest/agent/server.ts',
      'siblings.appKey(app, question.tag)',
      'siblings.appKey(question.tag, question.tag)',
    ],
    [node, '^1: an app gets'],
  ),
  one(
    1,
    'the permissions of a socket that gives keys',
    ['lib/daemon/unix-http.ts', 'options.mode ?? (options.gid === undefined ? 0o600 : 0o660)', '0o666'],
    [node, "^1: the host's own port"],
  ),

  // 2: host- and chain-supplied strings reached a shell or an `eval`
  one(
    2,
    'running programs without a shell',
    [SYSTEM, '{ timeout: 120_000 }', '{ timeout: 120_000, shell: true }'],
    [machine, '^2: a program gets'],
  ),
  one(
    2,
    'the rule that nothing uses a shell',
    [SYSTEM, '{ timeout: 120_000 }', '{ timeout: 120_000, shell: true }'],
    [machine, '^2: no file of the product'],
  ),
  one(
    2,
    'the form of an address',
    [
      'lib/protocol/schema.ts',
      "Type.String({ pattern: '^0x[0-9a-fA-F]{40}$', maxLength: 42 })",
      'Type.String({ maxLength: 42 })',
    ],
    [machine, '^2: .* at every boundary'],
  ),
  one(
    2,
    'the form of a tag',
    ['guest/agent/guards.ts', 'if (!TAG.test(tag)) throw', "if (tag === '') throw"],
    [machine, '^2: .* at every boundary'],
  ),
  one(
    2,
    "the form of an app's name",
    ['lib/protocol/manifest.ts', "  check(AppName, name, 'APP_NAME', ", '  void ('],
    [machine, '^2: an app on chain'],
  ),
  one(
    2,
    "the digest's way through bytes before it is a path",
    ['guest/kubernethes/deployment.ts', 'const name = toHex(fromHex(digest, 32));', 'const name = digest;'],
    [machine, '^2: .* at every boundary'],
  ),

  // 10: one raw secret was every key, and travelled through argv, environment and echo
  one(
    10,
    "the purpose in a key's path",
    [KEYS, '[utf8(purpose), uint64(epoch), ...path]', '[uint64(epoch), ...path]'],
    [machine, '^10: no two uses'],
  ),
  one(
    10,
    "the disk's key off the command line",
    [
      SYSTEM,
      "['create', '--noudevrules', '--noudevsync', name]",
      "['create', '--noudevrules', '--noudevsync', name, '--table', table]",
    ],
    [machine, '^10: a key goes'],
  ),
  one(
    10,
    'silence about keys in the log',
    [
      'guest/replicator/node.ts',
      "networkKey: keys.networkKey }, 'joined'",
      "networkKey: keys.networkKey, tls: toHex(keys.tlsKey()) }, 'joined'",
    ],
    [node, '^10: '],
  ),
  one(
    10,
    'wiping the secret',
    [KEYRING, '      for (const secret of secrets.values()) secret.fill(0);\n', ''],
    [machine, '^10: a wiped'],
  ),
  one(
    10,
    "the end of a wiped secret's use",
    [KEYRING, "    if (wiped) throw new Error('the secret was wiped');\n", ''],
    [machine, '^10: a wiped'],
  ),
  one(
    10,
    'no core file of the replicator',
    ['guest/image/daemon-files.ts', "  LimitCORE: '0',\n", ''],
    [machine, '^10: no daemon'],
  ),
];
