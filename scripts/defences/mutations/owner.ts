/** The owner's machine: what endpoints, files and texts of others can make the owner sign, believe or read. */
import { type Mutation, one } from '../mutation.ts';

const LYING = 'cli/owner/lying.test.ts';
const ENDPOINTS = 'cli/owner/endpoints.ts';
const ACT = 'cli/owner/act.ts';

export const ownerRules: readonly Mutation[] = [
  one(
    'owner',
    'the first block of a public chain',
    ['cli/owner/chains.ts', 'expected === undefined || expected === found', 'expected !== found || true'],
    [LYING, 'a chain that calls itself Sepolia'],
  ),
  one(
    'owner',
    'the refusal of a single endpoint elsewhere',
    ['cli/owner/connection.ts', 'isOnThisMachine(only!)', 'only !== undefined'],
    [LYING, 'a single endpoint elsewhere'],
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
    "the admin port's look at the name it is asked for by",
    ['host/relay/server.ts', 'if (!isOwnName(request.headers.host, hostName)) {', "if (hostName === '') {"],
    ['host/relay/server.test.ts', 'the admin port answers to addresses'],
  ),
];
