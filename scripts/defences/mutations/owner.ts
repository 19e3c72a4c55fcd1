/** The owner's machine: what endpoints, files and texts of others can make the owner sign, believe or read. */
import { type Mutation, one } from '../mutation.ts';

const LYING = 'cli/owner/lying.test.ts';
const ENDPOINTS = 'cli/owner/endpoints.ts';
const ACT = 'cli/owner/act.ts';

export const ownerRules: readonly Mutation[] = [
  one(
    'owner',
    'the quorum over nonce, code, receipt and refusals',
    [ENDPOINTS, 'if (best.length < quorum) {', 'if (best.length < 0) {'],
    [LYING, 'what one endpoint says of its'],
  ),
  one(
    'owner',
    'asking each endpoint for its chain',
    [
      ENDPOINTS,
      "if (codeOf(error) !== 'RPC_WRONG_CHAIN') return undefined;",
      'if (codeOf(error) !== undefined) return undefined;',
    ],
    [LYING, 'network.json says which chain'],
  ),
  one(
    'owner',
    'the first block of a public chain',
    ['cli/owner/chains.ts', 'expected === undefined || expected === found', 'expected !== found || true'],
    [LYING, 'a chain that calls itself Sepolia'],
  ),
  one(
    'owner',
    'the first block that a quorum agrees on',
    [
      ENDPOINTS,
      "    requireFirstBlock(options.chainId, endpoints.#firstBlock, endpoints.names.join(', '));\n",
      '',
    ],
    [LYING, 'a first block that the endpoint'],
  ),
  one(
    'owner',
    'the refusal of one endpoint under two spellings',
    ['cli/owner/connection.ts', 'if (at < 0) return undefined;', 'if (at < urls.length) return undefined;'],
    [LYING, 'one endpoint under two spellings'],
  ),
  one(
    'owner',
    'the refusal of a single endpoint elsewhere',
    ['cli/owner/connection.ts', 'isOnThisMachine(only!)', 'only !== undefined'],
    [LYING, 'a single endpoint elsewhere'],
  ),
  one(
    'owner',
    'the code and domain of what is called',
    ['cli/owner/connection.ts', 'if (isOurs) return;', 'if (isOurs || name !== version) return;'],
    [LYING, 'a contract that answers as the network'],
  ),
  one(
    'owner',
    'the ceiling of the gas limit',
    [ENDPOINTS, 'if (gas <= MAX_GAS) return gas;', 'if (gas > 0n) return gas;'],
    [LYING, 'fees: refused'],
  ),
  one(
    'owner',
    'reading back what a receipt says',
    [ACT, "if (!('instead' in seen)) return", 'if (seen !== undefined) return'],
    [LYING, 'a receipt for a revocation'],
  ),
  one(
    'owner',
    'asking before signing',
    [ACT, '  await requireConsent(args);\n', ''],
    [LYING, 'without a yes nothing is signed'],
  ),
  one(
    'owner',
    "the comparison of a deployment's code",
    ['cli/owner/deploy.ts', 'if (!isOurCode(code)) return', 'if (code.length === 0) return'],
    [LYING, 'a deployment whose code a quorum says is another'],
  ),
  one(
    'owner',
    'the refusal of a key that an object has twice',
    ['lib/protocol/json.ts', 'if (keys.has(key)) return key;', ''],
    ['lib/protocol/json.test.ts', 'a key that an object has twice'],
  ),
  one(
    'owner',
    'writing out control characters',
    ['lib/daemon/terminal.ts', 'shown.map(printable)', 'shown.map(String)'],
    ['lib/daemon/terminal.test.ts', 'a hostile text is one line'],
  ),
  one(
    'owner',
    'that a command outlives who reads it',
    [
      'lib/daemon/terminal.ts',
      "if (error.code !== 'EPIPE') throw error;\n    if (isTold",
      "if (error.code !== '') throw error;\n    if (isTold",
    ],
    ['lib/daemon/terminal.test.ts', 'does not end what was begun'],
  ),
  one(
    'owner',
    'that what runs until it is ended ends with its reader',
    ['lib/daemon/terminal.ts', "process.emit('SIGTERM', 'SIGTERM');", ''],
    ['lib/daemon/terminal.test.ts', 'ends what runs until it is told to end, in order'],
  ),
  one(
    'owner',
    "the admin port's look at the name it is asked for by",
    ['host/relay/server.ts', 'if (!isOwnName(request.headers.host, hostName)) {', "if (hostName === '') {"],
    ['host/relay/server.test.ts', 'the admin port answers to addresses'],
  ),
  one(
    'owner',
    "measuring the image's files",
    ['cli/commands/network-policy.ts', 'to0x(measurementOf(await registersOf(image, defaultShape)))', 'said'],
    ['cli/commands/network-policy.test.ts', 'the files beside image.json are measured'],
  ),
  one(
    'owner',
    "the owner's own clock beside the chain's",
    [
      'cli/verify-bootstrap.ts',
      'if (Math.abs(now - newest) <= CLOCK_SKEW_SECONDS) return now;',
      'if (now > 0) return newest;',
    ],
    ['cli/verify-bootstrap.test.ts', 'a chain clock that disagrees'],
  ),
];
