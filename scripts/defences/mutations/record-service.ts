/** A node that runs, and who asks it: keys, the API's door, and what is believed of a node. */
import { type Mutation, rowsOf } from '../mutation.ts';

const row = rowsOf('records');
const GUARDS = ['host/records/service/guards.ts', 'host/records/service/api.test.ts'] as const;
const API = ['host/records/service/api.ts', 'host/records/service/api.test.ts'] as const;
const PRIVATE = ['lib/daemon/private-file.ts', 'host/records/service/home.test.ts'] as const;
const HOME = ['host/records/service/home.ts', 'host/records/service/home.test.ts'] as const;
const READ = ['cli/records/read.ts', 'cli/records/lying.test.ts'] as const;
const CLIENT = ['cli/records/client.ts', 'cli/records/lying.test.ts'] as const;

export const recordServiceRules: readonly Mutation[] = [
  row('no answer to web pages', GUARDS, 'headers.origin !== undefined', 'false', 'a web page gets nothing'),
  row(
    'no answer by another name',
    GUARDS,
    'if (!isOwn)',
    'if (asked === undefined)',
    'a web page gets nothing',
  ),
  row(
    'the token of the API',
    GUARDS,
    'if (!hasToken(request, token))',
    'if (token.length === 0)',
    'needs the token',
  ),
  row(
    'keys of owners on the own machine alone',
    API,
    'requireThisMachine(request);',
    '',
    'one source may ask so much',
  ),
  row(
    'the processor’s time of one source',
    GUARDS,
    'processor.spend(0) > 0',
    'processor.spend(0) > Number.POSITIVE_INFINITY',
    'ask what takes so long',
  ),
  row(
    'the memory of answers that nobody reads',
    API,
    '      untaken.requireRoom(request);\n',
    '',
    'who does not read its answers',
  ),
  row(
    'no work for what no node takes',
    ['host/records/service/permits.ts', 'host/records/service/api.test.ts'],
    'drafted.value.bytes.length > rules.maxValue',
    'rules.maxValue < 0',
    'refused before the work',
  ),
  row(
    'no peer is kept that can’t be dialled',
    HOME,
    '  requireAddress(peer, 1);\n',
    '',
    'peers are kept by their key',
  ),
  row(
    'no token for who is where a node was',
    ['host/records/service/home.ts', 'cli/records/lying.test.ts'],
    'return isAlive(running.pid) ? running : undefined;',
    'return running;',
    'the token goes to no program',
  ),
  row(
    'that what contradicts is in one set, once',
    READ,
    'given.has(key!) || ids.size < records.length',
    'ids.size === 0',
    'gives one thing twice',
  ),
  row(
    'that records are of the time asked for',
    READ,
    'timestamp < from || timestamp > to',
    'timestamp < 0',
    'not of the time',
  ),
  row(
    'that a node that lies keeps no other from being asked',
    CLIENT,
    '/^(HTTP_|RECORDS_(ANSWER|RATE)$)/',
    '/^HTTP_UNREACHABLE$/',
    'keeps no other one from being asked',
  ),
  row(
    'the rate of one source',
    GUARDS,
    'requests.spend(1) > 0',
    'requests.spend(0) > 0',
    'one source may ask so much',
  ),
  row('JSON alone', API, "app.removeContentTypeParser('text/plain');", '', 'is refused before it is read'),
  row('no room for what was posted and waits', API, 'node.forget(from);', '', 'what waits takes no room'),
  row('no key that others can read', PRIVATE, '(mode & 0o077) !== 0', 'mode === 0', 'that others can read'),
  row(
    'no key over another',
    ['lib/daemon/durable-file.ts', HOME[1]],
    'sync(draft, mode);\n    linkSync(draft, path);',
    'sync(draft, mode);\n    renameSync(draft, path);',
    'is never another',
  ),
  row(
    'one secret of a folder',
    HOME,
    'toHex(own) === toHex(secret)',
    'own.length === secret.length',
    'is never another',
  ),
  row('a bound of peers', HOME, 'others.length >= MOST_PEERS', 'others.length < 0', 'so many and no more'),
  row(
    'records judged where they are read',
    CLIENT,
    'verifyAlone(record, genesis);\n    return record;',
    'return record;',
    'is named',
  ),
  row(
    'the genesis that was named',
    CLIENT,
    'toHex(genesis.id) !== network',
    'genesis.id.length === 0',
    'by another genesis',
  ),
  row(
    'names and ordinals that were asked for',
    READ,
    'ordinal < one.from || ordinal > one.to',
    'ordinal < 0n',
    'is named',
  ),
  row(
    'no names that are not keyed',
    CLIENT,
    '!isPrivate && secret !== undefined',
    'isPrivate && secret === null',
    'never asks by names',
  ),
  row(
    'candidates of one thing',
    READ,
    'keys.size > 1',
    'keys.size > records.length',
    'as candidates for one',
  ),
];
